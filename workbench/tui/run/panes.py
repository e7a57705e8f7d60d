"""Text of a run's panes: header, layers, gradients, settings, events."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from workbench.config.toml import load_recipe, read_toml
from workbench.errors import visible
from workbench.events import Commanded, RunFinished, Warned
from workbench.formatting import clock, duration, size
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import TAKES_COMMANDS
from workbench.runs.suites import SuiteResult
from workbench.tui.follow import MOST_NOTES, RunFollower, RunHistory, SnapshotReader
from workbench.tui.run.plots import NO_GRADIENTS, NO_MASKS, note_text
from workbench.tui.text import bar, hex_of, is_quiet, number, state_color, state_text
from workbench.views.architecture import architecture
from workbench.views.comparison import ComparedRun, Setting, compare_runs, setting_text
from workbench.views.gradients import GradientsView
from workbench.views.masks import Densities
from workbench.views.metrics import in_order, metric_label
from workbench.views.suite import COLUMNS, suite_views

PROGRESS_WIDTH = 12
MB = 1e6


def head_text(follower: RunFollower, width: int, colors: Mapping[str, str]) -> Text:
    """Two lines: the run, its state, progress and remaining time; then its newest measurements, or its problem."""
    text = Text()
    text.append(visible(follower.run.id), "bold")
    status, history = follower.status, follower.history
    if status is None:
        return text.append(f"  {visible(follower.problem)}" if follower.problem else "  loading")
    step_time = history.group("speed").get("step_time_s")
    is_live = status.state in TAKES_COMMANDS and not follower.is_removed
    waits = is_live and status.state == "paused"
    quiet = is_live and is_quiet(status, history.log_every_s)
    state = "removed" if follower.is_removed else state_text(status, is_quiet=quiet)
    color = hex_of(colors, "warning" if follower.is_removed else state_color(status, is_quiet=quiet))
    text.append("  ").append(state, f"bold {color}")
    if status.num_steps:
        share = status.step / status.num_steps
        text.append(f"  {bar(share, PROGRESS_WIDTH)}" if width >= 90 and share < 1 else "")
        text.append(f" {share:.0%}, step {status.step:,} of {status.num_steps:,}")
        if is_live and not waits and step_time is not None and step_time.last is not None:
            text.append(f", {duration(max(0, status.num_steps - status.step) * step_time.last)} left")
    return text.append("\n").append(_second_line(follower))


def _second_line(follower: RunFollower) -> Text:
    history = follower.history
    if follower.problem:
        return Text(visible(follower.problem), "bold")
    if reason := _why_ended(follower):
        return Text(visible(reason), "bold")
    if follower.share_read < 1:
        return Text(f"reading its log: {follower.share_read:.0%}", "italic")
    total, speed = history.group("loss").get("total"), history.group("speed")
    parts = [f"loss {number(total.last)}"] if total else []
    if history.evaluations:
        event = history.evaluations.get("validation") or next(iter(history.evaluations.values()))
        for name in in_order(set(event.metrics))[:3:2]:
            label = metric_label(name)
            parts.append(f"{label.label} {label.number(event.metrics[name])}{' %' if label.unit == '%' else ''}")
    if "pairs_per_s" in speed:
        parts.append(f"{number(speed['pairs_per_s'].last, 3)} pairs/s")
    if "peak_mb" in speed:
        parts.append(size((speed["peak_mb"].last or 0) * MB))
    if warnings := follower.warnings:
        count = "a warning" if len(warnings) == 1 else f"{len(warnings)} warnings, the last"
        parts.append(f"{count}: {visible(warnings[-1].message)}")
    return Text("  ".join(parts))


def _why_ended(follower: RunFollower) -> str:
    """Why a run that is not live diverged or failed; empty for any other."""
    if follower.status is None or follower.status.state not in ("diverged", "failed"):
        return ""
    ends = [event.reason for event in follower.history.notes if isinstance(event, RunFinished)]
    return f"{follower.status.state}: {ends[-1]}" if ends and ends[-1] else ""


SHADES = " ░▒▓█"
BAR_WIDTH = 16
BLUE = "#2E8BC0"  # readable on a dark and on a light background
MINUS = "\N{MINUS SIGN}"


def layers_text(reader: SnapshotReader, step: float | None, width: int) -> Text:
    """Figure 8 of TinyCLIP: the heads and FFN channels that remain in every layer at a step, and over time."""
    place = reader.mask_at(step)
    if place is None:
        return Text(NO_MASKS, "italic")
    found = architecture(reader.masks[place])
    text = Text()
    when = found.when or "as planned"
    text.append(f"remaining part of the teacher: {when}, sparsity {found.sparsity:.1%}\n", "bold")
    bar_width = max(4, min(BAR_WIDTH, (width - 34) // 2))
    for tower, change in found.towers.items():
        remains = change.kept_shares
        text.append(f"{tower} tower, width {change.student.width} of {change.teacher.width}\n", "italic")
        for layer in range(change.teacher.num_layers):
            heads = f"{change.student.heads[layer]}/{change.teacher.heads[layer]}"
            channels = f"{change.student.channels[layer]}/{change.teacher.channels[layer]}"
            text.append(f"  {layer + 1:>2}  heads ").append(bar(float(remains.heads_K[layer]), bar_width), BLUE)
            text.append(f" {heads:<6}  FFN ").append(bar(float(remains.channels_K[layer]), bar_width), BLUE)
            text.append(f" {channels}\n")
    if reader.timeline is not None:
        num_columns = max(8, min(width - 18, 96))
        text.append("\nremaining share of every layer, from the first snapshot to the newest ")
        text.append("( ░▒▓█ from 0 to 100 %)\n", "italic")
        for tower, densities in reader.timeline.towers.items():
            text.append(_over_time(tower, densities, reader.timeline.thinned(num_columns)))
    return text


def _over_time(tower: str, densities: Densities, places: list[int]) -> Text:
    text = Text()
    for group, layers in (("heads", densities.heads_KN), ("FFN", densities.channels_KN)):
        for layer_number, layer in enumerate(layers, start=1):
            shades = "".join(SHADES[round(float(layer[place]) * (len(SHADES) - 1))] for place in places)
            text.append(f"  {tower:5} {layer_number:>2} {group:5} ").append(shades + "\n", BLUE)
    return text


def gradients_text(view: GradientsView | None) -> Text:
    """The cosine between any two losses' gradients, and the pairs in conflict (negative cosine)."""
    if view is None:
        return Text(NO_GRADIENTS, "italic")
    if len(view.losses) < 2:
        return Text("a single loss: no gradient conflict is possible", "italic")
    names = [visible(loss) for loss in view.losses]
    widths = [max(6, len(name)) for name in names]
    text = Text()
    text.append(f"cosine between the losses' gradients at the towers' weights, after step {view.step:,}\n", "bold")
    headings = "".join(f"  {name:>{width}}" for name, width in zip(names, widths, strict=True))
    text.append(" " * max(widths) + headings + "\n")
    for row, name in enumerate(names):
        text.append(f"{name:{max(widths)}}")
        for column, width in enumerate(widths):
            cosine = float(view.tower_cosine_KK[row, column])
            shown = "1" if row == column else _cosine(cosine)
            text.append("  ").append(f"{shown:>{width}}", "dim" if row == column else _cosine_style(cosine))
        text.append("\n")
    conflicts = [f"{visible(one.first)} and {visible(one.second)} ({_cosine(one.cosine)})" for one in view.conflicts]
    if conflicts:
        return text.append(f"\ngradient conflicts: {', '.join(conflicts)}")
    return text.append("\nno gradient conflict: no cosine is below 0")


def _cosine(value: float) -> str:
    return f"{value:.2f}".replace("-", MINUS)


def _cosine_style(cosine: float) -> str:
    """Orange for negative and blue for positive cosines, more saturated with size."""
    strength = min(1.0, abs(cosine))
    towards = (213, 94, 0) if cosine < 0 else (0, 114, 178)
    channels = [round(56 + strength * (channel - 56)) for channel in towards]
    return f"white on #{channels[0]:02x}{channels[1]:02x}{channels[2]:02x}"


def config_text(run: RunDirectory) -> Text:
    """The settings: first those that differ from the recipe's, then all."""
    text = Text()
    try:
        table = read_toml(run.config_file)
    except ValueError as error:
        return Text(visible(str(error)))
    settings, problem = _against_recipe(table)
    name = visible(str(table.get("recipe", "")))
    text.append(f"differences from the recipe {name}\n", "bold")
    if problem:
        text.append(f"  {problem}\n", "italic")
    differing = [setting for setting in settings if setting.differs]
    width = max([len(setting.name) for setting in settings], default=0)
    for setting in differing:
        theirs, ours = map(setting_text, setting.values)
        text.append(f"  {visible(setting.name):{width}}  {visible(ours)}", "bold")
        text.append(f"  (recipe: {visible(theirs)})\n", "dim")
    if not differing and not problem:
        text.append("  none\n", "italic")
    text.append("\npress p for the differences from the paper\n" if not problem else "\n", "italic")
    for title, part in (("all settings", settings), ("machine and sweep", _flat(table, ("machine", "sweep")))):
        if part:
            text.append(f"\n{title}\n", "bold")
        for setting in part:
            text.append(f"  {visible(setting.name):{width}}  {visible(setting_text(setting.values[-1]))}\n")
    return text


def _against_recipe(table: dict[str, Any]) -> tuple[list[Setting], str]:
    """The run's settings paired with its recipe's; and an error message if the recipe cannot be loaded."""
    own = {key: value for key, value in table.items() if key not in ("machine", "sweep")}
    try:
        recipe = load_recipe(str(table.get("recipe", ""))).model_dump(mode="json")
    except ValueError as error:
        return _flat(own, tuple(own)), visible(str(error))
    return list(compare_runs([ComparedRun("recipe", recipe), ComparedRun("run", own)]).settings), ""


def _flat(table: dict[str, Any], keys: tuple[str, ...]) -> list[Setting]:
    """Settings by dotted name, paired with themselves."""
    part = {key: table[key] for key in keys if key in table}
    both = compare_runs([ComparedRun("one", part), ComparedRun("other", part)]).settings if part else ()
    return list(both)


def paper_text(reports: list[dict[str, Any]]) -> Text:
    """The ``departures`` of ``workbench runs show --departures --json`` as text."""
    text = Text()
    for report in reports:
        settings = report["settings"]
        text.append(f"\ndifferences from {visible(report['paper'])} (recipe {visible(report['recipe'])})\n", "bold")
        for one in settings:
            text.append(f"  {visible(one['setting'])}  {visible(setting_text(one['run']))}", "bold")
            text.append(f"  (paper: {visible(setting_text(one['paper']))})\n", "dim")
            text.append(f"      {visible(one['why'])}\n")
        text.append(
            f"  {report['num_compared'] - len(settings)} of {report['num_compared']} settings match the paper\n"
        )
    return text


def suites_text(results: Sequence[SuiteResult]) -> Text:
    """The tables of `evaluate --suite`; empty if none was run."""
    text = Text()
    for view in suite_views(results):
        rows = [COLUMNS, *view.table()]
        widths = [max(cell_len(row[column]) for row in rows) for column in range(len(COLUMNS))]
        text.append(f"\nsuite {visible(view.name)}\n", "bold")
        for row in rows:
            cells = [visible(cell) for cell in row]
            words = [f"{cell:<{width}}" for cell, width in zip(cells[:2], widths[:2], strict=True)]
            numbers = [f"{cell:>{width}}" for cell, width in zip(cells[2:], widths[2:], strict=True)]
            text.append("  ".join([*words, *numbers]).rstrip() + "\n", "italic" if row is COLUMNS else "")
    return text


def events_text(history: RunHistory, problem: str) -> Text:
    """The run's events except measurements, newest first."""
    text = Text()
    if problem:
        text.append(f"{visible(problem)}\n", "bold")
    if history.num_skipped:
        text.append(f"{history.num_skipped} lines of the log are unreadable\n", "bold")
    for event in reversed(history.notes):
        style = "bold" if isinstance(event, Warned | Commanded | RunFinished) else ""
        sign = "!" if isinstance(event, Warned) else " "
        text.append(f"{sign} {clock(event.time_s, '%d %b %H:%M:%S'):>15}  step {event.step:>7,}  ", "dim")
        text.append(f"{visible(note_text(event))}\n", style)
    if history.num_notes_lost:
        text.append(
            f"{history.num_notes_lost} older events are only in the log; the newest {MOST_NOTES} are shown\n", "italic"
        )
    if not history.notes:
        text.append("no events yet\n", "italic")
    return text
