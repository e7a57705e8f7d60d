"""``workbench evaluate``: metrics of a run or a model on any pairs."""

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.completion import complete_data, complete_model, complete_source
from workbench.cli.models import Request, evaluate_models, write_affinities
from workbench.cli.options import DEFAULT_RUNS, Json, RunsDir, Trust
from workbench.cli.output import print_json, print_line, print_metrics, print_rows
from workbench.cli.suite import Only, Root, SuiteName, chosen_suite, evaluate_suite
from workbench.config.suite import parse_shots
from workbench.models.names import check_source, check_teacher
from workbench.preflight.precheck import check_measurement, check_models
from workbench.progress import phase
from workbench.views.metrics import metric_label

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN|CHECKPOINT...",
        help="A run's id or directory, a model folder, or a model SPEC; several are compared with the first.",
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
TeacherSpec = Annotated[
    str,
    typer.Option(
        "--teacher",
        metavar="SPEC",
        help="The model to agree with; several as 'SPEC*2 + SPEC'.",
        show_default="the teacher of the run",
        autocompletion=complete_model,
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

Figure = Annotated[
    Path | None,
    typer.Option(
        "--figure",
        metavar="FILE",
        help="Draw the affinities of the first pairs: teacher, models and differences (png, svg or pdf).",
    ),
]

DEFAULT_SHOTS, DEFAULT_SEEDS = "1,2,4,8,16,all", 3
LinearProbe = Annotated[
    str | None,
    typer.Option(
        "--linear-probe",
        metavar="TRAIN_SPEC",
        help="Fit linear probes on these images, which have classes, instead of measuring retrieval.",
        autocompletion=complete_data,
    ),
]
Shots = Annotated[
    str | None,
    typer.Option(
        "--shots",
        metavar="LIST",
        help="With --linear-probe: training images per class.",
        show_default=DEFAULT_SHOTS,
    ),
]
Seeds = Annotated[
    int | None,
    typer.Option(
        "--seeds",
        min=1,
        metavar="N",
        help="With --linear-probe: how often these images are drawn.",
        show_default=str(DEFAULT_SEEDS),
    ),
]


def evaluate(
    sources: Sources,
    data: Data = None,
    teacher: TeacherSpec = "",
    num_pairs: NumPairs = None,
    block_size: Annotated[int | None, typer.Option("--block-size", min=2, help="Retrieval gallery size.")] = None,
    linear_probe: LinearProbe = None,
    shots: Shots = None,
    seeds: Seeds = None,
    suite: SuiteName = None,
    root: Root = None,
    only: Only = None,
    figure: Figure = None,
    runs: RunsDir = DEFAULT_RUNS,
    _trust: Trust = False,
    json: Json = False,
) -> None:
    """Evaluate a model: retrieval, zero-shot, and agreement with its teacher.

    Agreement is skipped, with a note, if the run's teacher is not on this machine.
    A suite's results are kept with the run; what was measured before is reused.

    Examples:

        workbench evaluate clip-kd-s0-1122-1405
        workbench evaluate clip-kd-s0-1122-1405 --data held-out.tar --json
        workbench evaluate sample:scenes --data samples:scenes/test --pairs 500
        workbench evaluate clip-kd-s0-1122-1405 --linear-probe folder:train --data folder:val --shots 1,4,all
        workbench evaluate clip-kd-s0-1122-1405 --suite papers --root /data
        workbench evaluate clip-kd-s0-1122-1405 published.pt --teacher teacher.pt --data held-out.tar
    """
    given = {
        "--data": data,
        "--teacher": teacher or None,
        "--pairs": num_pairs,
        "--block-size": block_size,
        "--shots": shots,
        "--seeds": seeds,
        "--only": only,
        "--figure": figure,
    }
    mode = "--suite" if suite is not None else "--linear-probe" if linear_probe is not None else ""
    _check_options(mode, [option for option, value in given.items() if value not in (None, [])], len(sources))
    source = sources[0]
    if suite is not None:
        listed = chosen_suite(suite, only)
        check_source(source, runs)
        evaluate_suite(source, listed, root, runs, json=json)
    elif linear_probe is not None:
        num_shots = _parsed(DEFAULT_SHOTS if shots is None else shots)
        check_measurement(source, data, runs, linear_probe)
        _probe(source, linear_probe, data, num_shots, seeds or DEFAULT_SEEDS, num_pairs, runs, json=json)
    else:
        if teacher:
            check_teacher(teacher, runs)
        check_models(sources, data, runs)
        request = Request(data, teacher, num_pairs, block_size, figure, runs, json)
        if len(sources) > 1:
            evaluate_models(sources, request)
        else:
            _measure(source, request)


# What can be measured, and the options of each.
OPTIONS = {
    "": ("--data", "--teacher", "--pairs", "--block-size", "--figure"),
    "--linear-probe": ("--data", "--pairs", "--shots", "--seeds"),
    "--suite": ("--only",),  # a suite's file has the rest
}


def _check_options(mode: str, given: list[str], num_sources: int) -> None:
    """Refuse options that would have no effect.

    Raises:
        ValueError: one line with the option.
    """
    if mode and num_sources > 1:
        raise ValueError(f"{mode} measures one model: run it for each")
    if useless := next((option for option in given if option not in OPTIONS[mode]), ""):
        needed = next(other for other, options in OPTIONS.items() if useless in options)
        remedy = f"has no effect with {mode}" if mode else f"needs {needed}"
        raise ValueError(f"{useless} {remedy}: drop it")


def _measure(source: str, request: Request) -> None:
    """Measure and print retrieval, zero-shot and agreement."""
    with phase("loading PyTorch"):
        from workbench.engine.remeasure import remeasure

    measured = remeasure(
        source,
        request.data,
        num_pairs=request.num_pairs,
        block_size=request.block_size,
        teacher=request.teacher,
        runs_dir=request.runs,
    )
    if request.figure:
        write_affinities({source: measured.probe}, request.figure)
    if request.json:
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
    for note in (*measured.notes, *([f"figure: {request.figure}"] if request.figure else [])):
        print_line(note)
    # The best R@1 if only a caption's own image counted: below 1 where several images share a caption.
    own_only = measured.ceiling["image_to_text_r1"]
    if own_only < 1:
        print_line(f"shared captions match any of their images; otherwise R@1 could not exceed {own_only:.1%}")


def _parsed(shots: str) -> list[int]:
    """The numbers in a list such as "1,4,all"; 0 for all."""
    try:
        return list(parse_shots(shots))
    except ValueError as error:
        raise ValueError(f"--{error}") from None


def _probe(
    source: str,
    train: str,
    data: str | None,
    shots: list[int],
    num_seeds: int,
    num_pairs: int | None,
    runs: Path,
    *,
    json: bool,
) -> None:
    """Fit and print linear probes, with zero-shot for comparison."""
    with phase("loading PyTorch"):
        from workbench.engine.linear_probe import probe_source

    probed = probe_source(source, train, data, shots=shots, num_seeds=num_seeds, num_pairs=num_pairs, runs_dir=runs)
    metrics, errors = (probed.zero_shot.metrics, probed.zero_shot.errors) if probed.zero_shot else ({}, {})
    if json:
        print_json(
            {
                "source": source,
                "train": train,
                "num_train": probed.num_train,
                "num_pairs": probed.num_test,
                "num_classes": probed.num_classes,
                "metrics": metrics,
                "errors": errors,
                "linear_probe": [
                    {"shots": one.shots or "all", "accuracy": one.estimate.to_json(), "l2": list(one.l2)}
                    for one in probed.accuracies
                ],
                "elapsed_s": probed.elapsed_s,
            }
        )
        return
    label = metric_label("zero_shot_top1")
    rows = [["zero-shot", label.number(metrics.get(label.name)), "", ""]]
    for one in probed.accuracies:
        mean, low, high = one.estimate.mean, one.estimate.low, one.estimate.high
        name = f"{one.shots}-shot" if one.shots else "all images"
        rows.append([name, label.number(mean), label.interval(low, high), str(len(one.l2))])
    title = (
        f"{source}: {probed.num_test:,} test images of {probed.num_classes:,} classes, {probed.num_train:,} to train"
    )
    print_rows(["linear probe", "top-1 (%)", "95 % over seeds", "seeds"], rows, title)
