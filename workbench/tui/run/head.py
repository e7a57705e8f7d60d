"""How a run stands, in two lines."""

from collections.abc import Mapping

from rich.text import Text

from workbench.runs.liveness import TAKES_COMMANDS
from workbench.terminal import visible
from workbench.tui.run.feed import Feed
from workbench.tui.words import bar, is_quiet, number, state_text, tone
from workbench.views.metrics import in_order, metric_label
from workbench.views.units import duration, size

BAR_WIDTH = 12
MB = 1e6


def head_text(feed: Feed, width: int, colours: Mapping[str, str]) -> Text:
    """The run, its state, how far it is and what is left; then what it measured, or what is wrong."""
    text = Text()
    text.append(visible(feed.run.id), "bold")
    status, story = feed.status, feed.story
    if status is None:
        return text.append(f"  {visible(feed.problem)}" if feed.problem else "  being read")
    total = story.group("loss").get("total")
    step_time = story.group("speed").get("step_time_s")
    is_live = status.state in TAKES_COMMANDS and not feed.is_removed
    waits = is_live and status.state == "paused"
    quiet = is_live and is_quiet(status, log_every_s(feed))
    state = "removed" if feed.is_removed else state_text(status, is_quiet=quiet)
    colour = colours.get("warning" if feed.is_removed else tone(status, is_quiet=quiet), "")[:7]
    text.append("  ")
    text.append(state, f"bold {colour}" if colour.startswith("#") else "bold")
    if status.num_steps:
        share = status.step / status.num_steps
        text.append(f"  {bar(share, BAR_WIDTH)}" if width >= 90 and share < 1 else "")
        text.append(f" {share:.0%}, step {status.step:,} of {status.num_steps:,}")
        if is_live and not waits and step_time is not None and step_time.last is not None:
            text.append(f", {duration(max(0, status.num_steps - status.step) * step_time.last)} left")
    text.append("\n")
    text.append(_second_line(feed, number(total.last) if total else ""))
    return text


def log_every_s(feed: Feed) -> float | None:
    """Seconds of training between the last two logged steps."""
    total = feed.story.group("loss").get("total")
    if total is None or len(total) < 2:
        return None
    elapsed_s = total.elapsed_s
    return float(elapsed_s[-1] - elapsed_s[-2])


def _second_line(feed: Feed, loss: str) -> Text:
    story = feed.story
    if feed.problem:
        return Text(visible(feed.problem), "bold")
    if feed.share_read < 1:
        return Text(f"reading its log: {feed.share_read:.0%}", "italic")
    parts = [f"loss {loss}"] if loss else []
    if story.evaluations:
        event = story.evaluations.get("validation") or next(iter(story.evaluations.values()))
        for name in in_order(set(event.metrics))[:3:2]:
            label = metric_label(name)
            parts.append(f"{label.label} {label.number(event.metrics[name])}{' %' if label.unit == '%' else ''}")
    speed = story.group("speed")
    if "pairs_per_s" in speed:
        parts.append(f"{number(speed['pairs_per_s'].last, 3)} pairs/s")
    if "peak_mb" in speed:
        parts.append(size((speed["peak_mb"].last or 0) * MB))
    if warnings := feed.warnings:
        count = "a warning" if len(warnings) == 1 else f"{len(warnings)} warnings, the last"
        parts.append(f"{count}: {visible(warnings[-1].message)}")
    return Text("  ".join(parts))
