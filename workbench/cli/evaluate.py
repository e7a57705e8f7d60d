"""``workbench evaluate``: metrics of a run or a model on any pairs."""

from typing import Annotated

import typer

from workbench.cli.completion import complete_data, complete_source
from workbench.cli.options import DEFAULT_RUNS, Json, RunsDir, Trust
from workbench.cli.output import print_json, print_line, print_metrics
from workbench.preflight.precheck import check_measurement
from workbench.progress import phase

Source = Annotated[
    str,
    typer.Argument(
        metavar="RUN|CHECKPOINT",
        help="A run's id or directory, a model folder, or a model SPEC.",
        autocompletion=complete_source,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="SPEC",
        help="Pairs to evaluate on; by default, the run's validation pairs.",
        autocompletion=complete_data,
    ),
]
NumPairs = Annotated[
    int | None,
    typer.Option(
        "--pairs",
        min=0,
        metavar="N",
        help="Use the first N pairs; 0 for all.",
        show_default="the run's number of validation pairs; all of --data",
    ),
]


def evaluate(
    source: Source,
    data: Data = None,
    num_pairs: NumPairs = None,
    block_size: Annotated[int | None, typer.Option("--block-size", min=2, help="Retrieval gallery size.")] = None,
    runs: RunsDir = DEFAULT_RUNS,
    _trust: Trust = False,
    json: Json = False,
) -> None:
    """Evaluate a model: retrieval, zero-shot, and agreement with its teacher.

    Agreement is skipped, with a note, if the run's teacher is not on this machine.

    Examples:

        workbench evaluate clip-kd-s0-1122-1405
        workbench evaluate clip-kd-s0-1122-1405 --data held-out.tar --json
        workbench evaluate sample:scenes --data samples:scenes/test --pairs 500
    """
    check_measurement(source, data, runs)
    with phase("loading PyTorch"):
        from workbench.engine.remeasure import remeasure

    measured = remeasure(source, data, num_pairs=num_pairs, block_size=block_size, runs_dir=runs)
    if json:
        print_json(
            {
                "source": source,
                "num_pairs": measured.num_pairs,
                "metrics": measured.metrics,
                "errors": measured.errors,
                "chance": measured.chance,
                "teacher_metrics": measured.teacher,
                "ceiling": measured.ceiling,
                "elapsed_s": measured.elapsed_s,
                "notes": list(measured.notes),
            }
        )
        return
    title = f"{source}: {measured.num_pairs:,} pairs"
    print_metrics(measured.metrics, measured.errors, title, teacher=measured.teacher, chance=measured.chance)
    for note in measured.notes:
        print_line(note)
    # The best R@1 if only a caption's own image counted: below 1 where several images share a caption.
    own_only = measured.ceiling["image_to_text_r1"]
    if own_only < 1:
        print_line(f"shared captions match any of their images; otherwise R@1 could not exceed {own_only:.1%}")
