"""Tables of an inherited architecture and its costs, for ``runs show --architecture`` and ``workbench inherit``."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from workbench.cli.completion import complete_run
from workbench.cli.options import write_figure
from workbench.cli.output import print_line, print_rows
from workbench.config.inheritance import TOWERS, Tower, WidthRule
from workbench.config.toml import load_run_config
from workbench.figures.architecture import architecture_figure, mask_timeline_figure
from workbench.models.names import is_run, parse_model
from workbench.runs.directory import RunDirectory, find_run
from workbench.runs.snapshots import MaskSnapshot, read_snapshot_history
from workbench.views.architecture import (
    Architecture,
    OverlapByGroup,
    TowerChange,
    architecture,
    means,
    overlap_of_runs,
    overlaps_to_json,
    pick,
)
from workbench.views.masks import MaskTimeline, mask_timeline

if TYPE_CHECKING:
    from workbench.inheritance.report import Latency, TowerReport
    from workbench.models.clip import Clip


SIDES = ("teacher", "student")


@dataclass(frozen=True)
class Costs:
    """Reports and latencies of teacher and student, by side and tower."""

    reports: "dict[str, dict[Tower, TowerReport]]"
    latencies: "dict[str, dict[Tower, Latency]]"

    def rows(self, tower: Tower) -> list[list[str]]:
        """Rows of one tower's costs: teacher, student, and the student's share."""
        teacher, student = (self.reports[side][tower] for side in SIDES)
        rows = [
            comparison_row("block params", teacher.block_parameters, student.block_parameters),
            comparison_row("table params", teacher.embedding_parameters, student.embedding_parameters),
        ]
        if teacher.multiply_accumulates is not None and student.multiply_accumulates is not None:
            costs = teacher.multiply_accumulates / 1e6, student.multiply_accumulates / 1e6
            rows.append(comparison_row("M mult-adds", *costs, digits=1))
        if self.latencies:
            teacher_time, student_time = (self.latencies[side][tower] for side in SIDES)
            rows.append(comparison_row("ms for one", teacher_time.median_ms, student_time.median_ms, digits=2))
            rows.append(["middle half", _middle(teacher_time), _middle(student_time), ""])
        return rows

    def to_json(self) -> dict[str, Any]:
        """By side and tower, with ``latency`` if measured."""
        document: dict[str, Any] = {side: {} for side in SIDES}
        for side, reports in self.reports.items():
            for tower, report in reports.items():
                shape = {"shape": report.shape.model_dump(mode="json") if report.shape else None}
                latency = {"latency": asdict(self.latencies[side][tower])} if self.latencies else {}
                document[side][tower] = asdict(report) | shape | latency
        return document


def describe_both(teacher: "Clip", student: "Clip") -> Costs:
    """Computed costs of both, without latency."""
    from workbench.inheritance.report import describe

    return Costs({"teacher": describe(teacher), "student": describe(student)}, {})


def measure_costs(teacher: "Clip", student: "Clip") -> Costs:
    """Costs of both, with the latency of a single image and text measured on this machine."""
    from workbench.inheritance.report import measure_latency

    # Both models in turns, so that other load on the machine affects them equally.
    timed = {tower: dict(zip(SIDES, measure_latency([teacher, student], tower), strict=True)) for tower in TOWERS}
    latencies = {side: {tower: timed[tower][side] for tower in TOWERS} for side in SIDES}
    return Costs(describe_both(teacher, student).reports, latencies)


def load_source(run: RunDirectory, runs_dir: Path) -> "Clip":
    """The model that a run's student inherits from.

    Raises:
        ValueError: the model no longer exists.
    """
    from workbench.models.spec import load_model

    config = load_run_config(run.config_file)
    return load_model(config.inheritance.source or config.teacher.model, runs_dir=runs_dir)


def comparison_row(name: str, teacher: float, student: float, digits: int = 0) -> list[str]:
    """A row: name, teacher, student, and the student's share."""
    return [name, f"{teacher:,.{digits}f}", f"{student:,.{digits}f}", f"{student / teacher:.0%}" if teacher else ""]


def _middle(latency: "Latency") -> str:
    return f"{latency.low_ms:.3g}-{latency.high_ms:.3g}"


NUM_SHOWN = 12  # snapshots; --json has all
RULES = ("leading", "magnitude")
GROUPS = {"embedding": "embedding channels", "heads": "heads", "channels": "FFN channels"}

ArchitectureFlag = Annotated[
    bool, typer.Option("--architecture", help="Layers, heads and channels that the student kept of its teacher.")
]
Stage = Annotated[
    int | None, typer.Option("--stage", metavar="N", help="With --architecture: at the end of stage N (from 1).")
]
OverTime = Annotated[bool, typer.Option("--over-time", help="With --architecture: the masks at every snapshot.")]
Against = Annotated[
    str,
    typer.Option(
        "--against",
        metavar="RUN|RULE|SPEC",
        help="With --architecture: overlap with another run, a rule (leading, magnitude), or another model; with "
        "--detections: another run.",
        autocompletion=complete_run,
    ),
]
CostsFlag = Annotated[
    bool,
    typer.Option(
        "--costs", help="With --architecture: parameters, multiply-accumulates and measured latency of both models."
    ),
]


def show_architecture(
    run: RunDirectory,
    stage: int | None,
    over_time: bool,
    against: str,
    with_costs: bool,
    figure: Path | None,
    runs_dir: Path,
    *,
    prints: bool,
) -> dict[str, Any]:
    """The run's inherited architecture as a JSON document; also drawn to ``figure`` and printed if asked for.

    Raises:
        ValueError: the run inherits nothing, the stage does not exist, or it cannot be compared or drawn.
    """
    masks = read_snapshot_history(run, MaskSnapshot)
    if masks.num_skipped and not masks.snapshots:
        raise ValueError(f"the {masks.num_skipped} snapshots of masks in {run.snapshots} are damaged")
    snapshot = pick(masks.snapshots, stage)
    view = architecture(snapshot)
    timeline = mask_timeline(masks.snapshots) if over_time else None
    overlaps = overlaps_with(snapshot, against, partial(load_source, run, runs_dir), runs_dir)
    costs = _costs(run, snapshot, runs_dir) if with_costs else None
    if prints:
        print_architecture(view, costs)
        _print_masks(snapshot)
        print_overlaps(overlaps, against)
        _print_timeline(timeline)
        if masks.num_skipped:
            print_line(f"{masks.num_skipped} snapshots could not be read")
    if figure:
        write_figure(mask_timeline_figure(timeline) if timeline else architecture_figure(view), figure)
        if prints:
            print_line(f"figure: {figure}")
    return {
        "step": snapshot.step,
        "stage": snapshot.stage + 1,
        "learning": snapshot.learning,
        "expected_sparsity": snapshot.sparsity,
        "target": snapshot.target,
        **view.to_json(),
        **({"overlaps": overlaps_to_json(overlaps)} if overlaps else {}),
        **({"over_time": timeline.to_json()} if timeline else {}),
        **({"costs": costs.to_json()} if costs else {}),
        "num_unreadable": masks.num_skipped,
    }


def print_architecture(view: Architecture, costs: Costs | None = None) -> None:
    """Print both towers of teacher and student: shape, costs if known, and what each layer kept."""
    for tower in TOWERS:
        change = view.towers.get(tower)
        rows = (_shape_rows(change) if change else []) + (costs.rows(tower) if costs else [])
        if not rows:
            continue
        print_line("")
        print_rows([f"{tower} tower", "teacher", "student", "left"], rows)
        if change:
            print_line("")
            print_rows(["layer", "heads", "", "FFN", ""], _layer_rows(change))


def _shape_rows(change: TowerChange) -> list[list[str]]:
    """Rows of a tower's shape, as in TinyCLIP's table 9; heads and FFN are means over the teacher's layers."""
    teacher, student = means(change.teacher), means(change.student)
    return [
        comparison_row("layers", change.teacher.num_layers, change.num_layers),
        comparison_row("width", teacher.width, student.width),
        comparison_row("heads per teacher layer", teacher.heads, student.heads, digits=1),
        comparison_row("FFN per teacher layer", teacher.channels, student.channels, digits=1),
        comparison_row("attention, FFN", teacher.weights, student.weights),
    ]


def _layer_rows(change: TowerChange) -> list[list[str]]:
    teacher, student, remains = change.teacher, change.student, change.kept_shares
    heads = zip(student.heads, teacher.heads, remains.heads_K, strict=True)
    channels = zip(student.channels, teacher.channels, remains.channels_K, strict=True)
    both = [
        [f"{kept:,} of {total:,}", f"{share:.0%}"]
        for pair in zip(heads, channels, strict=True)
        for kept, total, share in pair
    ]
    return [[str(layer), *both[2 * layer], *both[2 * layer + 1]] for layer in range(teacher.num_layers)]


def _print_masks(snapshot: MaskSnapshot) -> None:
    where = f"stage {snapshot.stage + 1}, step {snapshot.step:,}"
    if snapshot.learning:
        print_line(
            f"{where}: expected sparsity {snapshot.sparsity:.1%}, target {snapshot.target:.1%}; masks still learn"
        )
    else:
        print_line(f"{where}: {snapshot.sparsity:.1%} of the teacher's attention and FFN weights are removed")


def overlaps_with(
    snapshot: MaskSnapshot, against: str, teacher: "Callable[[], Clip]", runs_dir: Path
) -> dict[Tower, OverlapByGroup]:
    """Overlap of the kept units with those of a rule, a run or any other model; empty if there is nothing to compare.

    Args:
        against: a rule, a run's id or directory, or a model SPEC, whose units are recovered from its weights.
        teacher: loads the model that both inherit from.

    Raises:
        ValueError: there is no such run or model, or it cannot be compared.
    """
    if not against:
        return {}
    if against in RULES:
        from workbench.inheritance.manual import overlaps_with_rule

        return overlaps_with_rule(teacher(), snapshot, cast("WidthRule", against))
    try:
        if is_run(against, runs_dir) or not parse_model(against).kind:
            masks = read_snapshot_history(find_run(runs_dir, against), MaskSnapshot).snapshots
            return overlap_of_runs(snapshot, pick(masks))
        from workbench.inheritance.recovery import recover
        from workbench.models.spec import load_model

        return overlap_of_runs(snapshot, recover(load_model(against, runs_dir=runs_dir), teacher()).snapshot)
    except ValueError as error:
        raise ValueError(f"--against {against}: {error}") from None


def print_overlaps(overlaps: dict[Tower, OverlapByGroup], against: str) -> None:
    """Print the overlaps with ``against``, if any."""
    if not overlaps:
        return
    rows = [
        [f"{tower} tower", GROUPS[group], f"{found.shared:.1%}", f"{found.chance:.1%}"]
        for tower, groups in overlaps.items()
        for group, found in groups.items()
    ]
    print_line(f"\nShare of the kept units that {against} keeps too, and expected by chance:")
    print_rows(["", "", "shared", "by chance"], rows, num_words=2)


def _print_timeline(timeline: MaskTimeline | None) -> None:
    if timeline is None:
        return
    indices = timeline.thinned(NUM_SHOWN)
    rows = [
        [
            f"{timeline.steps[index]:,}",
            str(timeline.stage_N[index]),
            "learned" if timeline.learning_N[index] else "fixed",
            f"{timeline.target.value[index]:.1%}",
            f"{timeline.sparsity.value[index]:.1%}",
        ]
        for index in indices
    ]
    print_line("\nSparsity of attention and FFN weights (expected sparsity while masks are learned):")
    print_rows(["step", "stage", "masks", "target", "sparsity"], rows, num_words=3)
    if len(indices) < len(timeline.steps):
        print_line(f"{len(indices)} of {len(timeline.steps)} snapshots; all, layer by layer, with --json or --figure")


def _costs(run: RunDirectory, snapshot: MaskSnapshot, runs_dir: Path) -> Costs:
    from workbench.inheritance.report import student_at
    from workbench.models.spec import load_model

    source = load_source(run, runs_dir)
    return measure_costs(source, student_at(snapshot, source, load_model(f"run:{run.path}")))
