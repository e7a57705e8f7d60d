"""What ``workbench runs show --architecture`` says of a run that inherits, and ``workbench inherit`` of a plan."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from workbench.cli.completion import complete_run

if TYPE_CHECKING:
    from pathlib import Path

    from workbench.cli.costs import Costs
    from workbench.config.inheritance import Tower, WidthRule
    from workbench.runs.directory import RunDirectory
    from workbench.runs.mask_snapshots import MaskSnapshot
    from workbench.views.architecture import Architecture, OverlapByGroup, TowerChange
    from workbench.views.masks import MaskTimeline

NUM_SHOWN = 12  # snapshots; all are in --json
RULES = ("leading", "magnitude")
GROUPS = {"embedding": "embedding channels", "heads": "heads", "channels": "FFN channels"}

ArchitectureFlag = Annotated[
    bool, typer.Option("--architecture", help="What of its teacher's layers, heads and channels the student has.")
]
Stage = Annotated[
    int | None, typer.Option("--stage", metavar="N", help="With --architecture: as stage N left it, from 1.")
]
OverTime = Annotated[bool, typer.Option("--over-time", help="With --architecture: how the masks formed.")]
Against = Annotated[
    str,
    typer.Option(
        "--against",
        metavar="RUN|RULE",
        help="With --architecture: how much of it another run keeps too, or a rule would (leading, magnitude).",
        autocompletion=complete_run,
    ),
]
CostsFlag = Annotated[
    bool,
    typer.Option(
        "--costs", help="With --architecture: build both models; parameters, multiply-accumulates, measured latency."
    ),
]


@dataclass(frozen=True)
class Wanted:
    """What of an architecture is to be shown; :func:`wanted` makes it of the options."""

    stage: int | None = None
    against: str = ""
    costs: bool = False
    over_time: bool = False


def wanted(architecture: bool, asked: Wanted) -> Wanted | None:
    """What is to be shown of an architecture, if it is.

    Raises:
        ValueError: an option would have no effect.
    """
    if architecture or asked == Wanted():
        return asked if architecture else None
    changed = next(name for name, value in asdict(asked).items() if value != getattr(Wanted(), name))
    raise ValueError(f"--{changed.replace('_', '-')} is about what remains: add --architecture")


def show_architecture(
    run: "RunDirectory", asked: Wanted, figure: "Path | None", runs_dir: "Path", *, prints: bool
) -> dict[str, Any]:
    """What the run's student has of its teacher, as a document, drawn where a figure is named, printed if asked for.

    Raises:
        ValueError: it inherits nothing, there is no such stage, or what is asked for cannot be compared or drawn.
    """
    from workbench.cli.options import write_figure
    from workbench.cli.output import print_line
    from workbench.figures.architecture import architecture_figure, mask_timeline_figure
    from workbench.runs.mask_snapshots import read_mask_history
    from workbench.views.architecture import architecture, overlaps_to_json, pick
    from workbench.views.masks import mask_timeline

    found = read_mask_history(run)
    if found.num_skipped and not found.snapshots:
        raise ValueError(f"the {found.num_skipped} snapshots of masks in {run.snapshots} are damaged")
    snapshot = pick(found.snapshots, asked.stage)
    view = architecture(snapshot)
    timeline = mask_timeline(found.snapshots) if asked.over_time else None
    overlaps = _overlaps(run, snapshot, asked.against, runs_dir)
    costs = _costs(run, snapshot, runs_dir) if asked.costs else None
    if prints:
        print_architecture(view, costs)
        _print_masks(snapshot)
        _print_overlaps(overlaps, asked.against)
        _print_timeline(timeline)
        if found.num_skipped:
            print_line(f"{found.num_skipped} snapshots could not be read")
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
        "num_unreadable": found.num_skipped,
    }


def print_architecture(view: "Architecture", costs: "Costs | None" = None) -> None:
    """Each tower of teacher and student in rows, what it costs where that is known, and what remains layer by layer."""
    from workbench.cli.output import print_line, print_rows
    from workbench.config.inheritance import TOWERS

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


def _shape_rows(change: "TowerChange") -> list[list[str]]:
    """A row of table 9, as a column; heads and FFN channels are means over the teacher's layers."""
    from workbench.cli.costs import beside
    from workbench.views.architecture import means

    teacher, student = means(change.teacher), means(change.student)
    return [
        beside("layers", change.teacher.num_layers, change.num_layers),
        beside("width", teacher.width, student.width),
        beside("heads per teacher layer", teacher.heads, student.heads, digits=1),
        beside("FFN per teacher layer", teacher.channels, student.channels, digits=1),
        beside("attention, FFN", teacher.weights, student.weights),
    ]


def _layer_rows(change: "TowerChange") -> list[list[str]]:
    teacher, student, left = change.teacher, change.student, change.kept_shares
    heads = zip(student.heads, teacher.heads, left.heads_K, strict=True)
    channels = zip(student.channels, teacher.channels, left.channels_K, strict=True)
    both = [
        [f"{kept:,} of {there:,}", f"{share:.0%}"]
        for pair in zip(heads, channels, strict=True)
        for kept, there, share in pair
    ]
    return [[str(layer), *both[2 * layer], *both[2 * layer + 1]] for layer in range(teacher.num_layers)]


def _print_masks(snapshot: "MaskSnapshot") -> None:
    from workbench.cli.output import print_line

    where = f"stage {snapshot.stage + 1}, step {snapshot.step:,}"
    if snapshot.learning:
        print_line(f"{where}: {snapshot.sparsity:.1%} is expected to go, target {snapshot.target:.1%}; masks form yet")
    else:
        print_line(f"{where}: {snapshot.sparsity:.1%} of the teacher's attention and FFN weights are gone")


def _overlaps(
    run: "RunDirectory", snapshot: "MaskSnapshot", against: str, runs_dir: "Path"
) -> "dict[Tower, OverlapByGroup]":
    """What another run, or a rule, keeps of what this one does; empty where neither is named."""
    from workbench.runs.directory import find_run
    from workbench.runs.mask_snapshots import read_mask_history
    from workbench.views.architecture import overlap_of_runs, pick

    if not against:
        return {}
    if against in RULES:
        from workbench.cli.costs import load_source
        from workbench.inheritance.manual import overlaps_with_rule

        return overlaps_with_rule(load_source(run, runs_dir), snapshot, cast("WidthRule", against))
    other = find_run(runs_dir, against)
    try:
        return overlap_of_runs(snapshot, pick(read_mask_history(other).snapshots))
    except ValueError as error:
        raise ValueError(f"--against {against}: {error}") from None


def _print_overlaps(overlaps: "dict[Tower, OverlapByGroup]", against: str) -> None:
    from workbench.cli.output import print_line, print_rows

    if not overlaps:
        return
    rows = [
        [f"{tower} tower", GROUPS[group], f"{found.shared:.1%}", f"{found.chance:.1%}"]
        for tower, groups in overlaps.items()
        for group, found in groups.items()
    ]
    print_line(f"\nOf what stays here, {against} keeps too (and a random choice of as many would):")
    print_rows(["", "", "shared", "by chance"], rows, num_words=2)


def _print_timeline(timeline: "MaskTimeline | None") -> None:
    from workbench.cli.output import print_line, print_rows

    if timeline is None:
        return
    places = timeline.thinned(NUM_SHOWN)
    rows = [
        [
            f"{timeline.steps[place]:,}",
            str(timeline.stage_N[place]),
            "learnt" if timeline.learning_N[place] else "fixed",
            f"{timeline.target.value[place]:.1%}",
            f"{timeline.sparsity.value[place]:.1%}",
        ]
        for place in places
    ]
    print_line("\nAttention and FFN weights that are gone, or expected to go while masks are learnt:")
    print_rows(["step", "stage", "masks", "target", "sparsity"], rows, num_words=3)
    if len(places) < len(timeline.steps):
        print_line(f"{len(places)} of {len(timeline.steps)} snapshots; all, layer by layer, with --json or --figure")


def _costs(run: "RunDirectory", snapshot: "MaskSnapshot", runs_dir: "Path") -> "Costs":
    from workbench.cli.costs import load_source, measure_costs
    from workbench.inheritance.report import student_at
    from workbench.models.spec import load_model

    source = load_source(run, runs_dir)
    return measure_costs(source, student_at(snapshot, source, load_model(f"run:{run.path}")))
