"""``workbench dense``: detection and segmentation on a frozen image tower."""

from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from workbench.cli.completion import complete_detection_data, complete_source
from workbench.cli.options import DEFAULT_RUNS, Json, Name, Overrides, RunsDir, Seed
from workbench.cli.output import print_json, print_line, print_metrics, print_rows
from workbench.cli.progress import interruptible, show
from workbench.config.dense import SCHEDULES
from workbench.config.run import RunConfig
from workbench.config.toml import with_overrides
from workbench.errors import print_error, unknown
from workbench.models.names import check_source, folder_name, is_run
from workbench.preflight.precheck import check_config
from workbench.progress import phase
from workbench.runs.directory import check_can_create, find_run, new_run_id
from workbench.runs.summary import Summary, summarize
from workbench.statistics.intervals import seed_mean
from workbench.views.metrics import in_order, metric_label

Source = Annotated[
    str,
    typer.Argument(
        metavar="RUN|SPEC",
        help="A run's id or directory, or a model SPEC with weights.",
        autocompletion=complete_source,
    ),
]
Data = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="DATA",
        help="Images with boxes: samples:scenes-dense or coco-detection:FILE.json@DIR.",
        autocompletion=complete_detection_data,
    ),
]
Validation = Annotated[
    str,
    typer.Option(
        "--validation",
        metavar="DATA",
        help="Images to measure on; auto: the scenes' own, or every tenth image of other data.",
        autocompletion=complete_detection_data,
    ),
]
Schedule = Annotated[
    str, typer.Option("--schedule", metavar="|".join(SCHEDULES), help="1x: 12 epochs; 0.1x: 1.2 epochs.")
]


def dense(
    source: Source,
    data: Data,
    validation: Validation = "auto",
    boxes_only: Annotated[bool, typer.Option("--boxes-only", help="Detect boxes without masks.")] = False,
    open_vocabulary: Annotated[
        bool,
        typer.Option("--open-vocabulary", help="Classify regions by the text tower, also into classes without images."),
    ] = False,
    schedule: Schedule = "1x",
    seeds: Annotated[int, typer.Option("--seeds", min=1, metavar="K", help="Train K detectors, on K seeds.")] = 1,
    seed: Seed = None,
    overrides: Overrides = None,
    name: Name = None,
    runs: RunsDir = DEFAULT_RUNS,
    json: Json = False,
) -> None:
    """Measure a frozen image tower by detection and segmentation: Mask R-CNN's heads and COCO's AP.

    The tower gets no gradients and keeps its normalization; only a feature pyramid and the heads are trained. It is a
    run: with a folder, checkpoints, and `workbench runs resume`. --set changes [dense], such as dense.image_size=800.

    Examples:

        workbench dense sample:scenes --data samples:scenes-dense
        workbench dense clip-kd-s0-1122-1405 --data samples:scenes-dense --seeds 3 --schedule 0.1x
        workbench dense clip-kd-s0-1122-1405 --data samples:scenes-dense --open-vocabulary
        workbench dense clip-kd-s0-1122-1405 --data coco-detection:instances_train2017.json@train2017 --boxes-only
        workbench dense clip-kd-s0-1122-1405 --data coco-detection:val.json@val --set dense.image_size=800
    """
    if schedule not in SCHEDULES:
        raise unknown("--schedule", schedule, SCHEDULES)
    check_source(source, runs)
    table = {
        "data": data,
        "validation": validation,
        "boxes_only": boxes_only,
        "open_vocabulary": open_vocabulary,
        "epochs": SCHEDULES[schedule],
    }
    config = with_overrides(_config(_model(source, runs), table), overrides or [])
    check_config(config, runs)
    stem = (
        name
        or f"dense-{find_run(runs, source.removeprefix('run:')).id if is_run(source, runs) else folder_name(source)}"
    )
    configs: dict[str, RunConfig] = {}
    for number in range(seeds):
        own = config.model_copy(update={"seed": number + (seed or 0)})
        run_id = name if name and seeds == 1 else f"{name}-s{own.seed}" if name else new_run_id(stem, own.seed, runs)
        check_can_create(runs, run_id)
        configs[run_id] = own
    summaries = _train(configs, runs)
    _report(source, summaries, json=json)
    if any(summary.state != "finished" for summary in summaries):
        raise typer.Exit(1)


def _model(source: str, runs: Path) -> str:
    """The SPEC of a source, valid from every folder of runs."""
    return f"run:{find_run(runs, source.removeprefix('run:')).path}" if is_run(source, runs) else source


def _config(model: str, table: dict[str, Any]) -> RunConfig:
    """A run of no steps but the detector's."""
    return RunConfig.parse(
        {
            "recipe": "dense",
            "question": "How well do the frozen image tower's features serve detection and segmentation?",
            "student": {"model": model},
            "train": {"num_steps": 0, "batch_size": 2},
            "data": {"num_pairs": 2, "validation": "", "test": ""},  # two pairs, which are not read
            "dense": table,
        }
    )


def _train(configs: dict[str, RunConfig], runs: Path) -> list[Summary]:
    """Train the detectors one after another, with progress on stderr."""
    with phase("loading PyTorch"):
        from workbench.engine.launch import launch

    started = launch(configs, runs)
    with interruptible() as interrupt:
        try:
            for _ in show(started.events(interrupt), started.cohort.total_steps):
                pass
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            print_error(f"workbench: {error}")
            raise typer.Exit(1) from None
    summaries = [summarize(directory) for directory in started.directories.values()]
    if interrupt.exit_code:
        for summary in summaries:
            if summary.state == "interrupted":
                print_line(f"resume it with: workbench runs resume {quote(summary.dir)}")
        raise typer.Exit(interrupt.exit_code)
    return summaries


def _report(source: str, summaries: list[Summary], *, json: bool) -> None:
    """Print the metrics, of several seeds as means with 95 % intervals."""
    names = in_order({name for summary in summaries for name in summary.metrics})
    measured = [summary.metrics for summary in summaries if summary.metrics]
    means = {name: seed_mean([metrics[name] for metrics in measured if name in metrics]) for name in names}
    if json:
        document = {
            "source": source,
            "runs": [summary.to_document() for summary in summaries],
            "metrics": {name: estimate.to_json() for name, estimate in means.items()},
        }
        print_json(document)
        return
    for summary in summaries:
        print_line(f"{summary.dir}: {summary.state}{f': {summary.reason}' * bool(summary.reason)}")
    if len(measured) == 1:
        print_metrics(measured[0], {}, source)
        return
    rows = [
        [(label := metric_label(name)).title, label.number(one.mean), label.interval(one.low, one.high)]
        for name, one in means.items()
    ]
    print_rows(["metric", "mean", "95 % interval"], rows, f"{source}: {len(measured)} seeds")
