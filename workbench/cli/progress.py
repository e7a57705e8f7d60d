"""A run's events as progress bars in a terminal, and as a line now and then elsewhere."""

from collections.abc import Iterable, Iterator
from contextlib import suppress

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from workbench.cli.output import errors
from workbench.events import (
    EvalDone,
    EvalStarted,
    Event,
    RunFinished,
    RunResumed,
    RunStarted,
    StageStarted,
    StepDone,
    Warned,
)
from workbench.progress import hosted
from workbench.views.metrics import metric_label
from workbench.views.names import told_apart
from workbench.views.units import duration, rate

NAME_WIDTH = 16  # with it a line of bars has at most 80 columns
MANY_PAIRS = 1000  # of a test; measuring fewer takes no time worth a hint
PLAIN_EVERY = 0.1  # of the run, between two lines where there is no terminal


def show(events: Iterable[Event], num_steps: int) -> Iterator[Event]:
    """Pass the events on and show them on stderr; where that fails, once say so and go on without."""
    view = _Bars(num_steps) if errors.is_terminal else _Lines(num_steps)
    is_shown = True
    warned: set[tuple[int, str]] = set()  # what concerns all members of a cohort is shown once
    with view:
        for event in events:
            is_new = not (isinstance(event, Warned) and (event.step, event.message) in warned)
            if is_shown and is_new:
                is_shown = _is_shown(view, event)
            if isinstance(event, Warned):
                warned.add((event.step, event.message))
            yield event


def _is_shown(view: "_Bars | _Lines", event: Event) -> bool:
    """Whether the event could be shown: a display that fails must not end hours of training."""
    try:
        view.show(event)
    except Exception as error:
        message = f"progress is no longer shown ({type(error).__name__}: {error}); training goes on"
        with suppress(Exception):
            text = f"workbench: {message}, see it with: workbench runs show {event.run}"
            errors.print(text, markup=False, soft_wrap=True)
        return False
    return True


def _recall(event: EvalDone, image: str, text: str) -> str:
    """Recall at 1 both ways, named for its ends, such as "I→T 1.7 T→I 3.3 %"; empty without."""
    ways = {"image_to_text_r1": f"{image}→{text}", "text_to_image_r1": f"{text}→{image}"}
    measured = {name: metric_label(name).number(event.metrics[name]) for name in ways if name in event.metrics}
    found = [f"{ways[name]} {number}" for name, number in measured.items()]
    return f"{' '.join(found)} %" if found else ""


def _test_hint(event: EvalStarted) -> str:
    """What is about to be measured, and how to leave it out; empty for a validation or a short test."""
    if event.split != "test" or event.num_pairs < MANY_PAIRS:
        return ""
    return f"measuring {event.num_pairs:,} test pairs (--no-test or --set data.test= trains without)"


def _ending(event: RunFinished) -> str:
    return event.state if not event.reason else f"{event.state}: {event.reason}"


def _stage(event: StageStarted) -> str:
    return f"{event.name}, {event.num_parameters:,} weights, to step {event.until}"


class _Bars:
    def __init__(self, num_steps: int) -> None:
        self._num_steps = num_steps
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(max_width=NAME_WIDTH, no_wrap=True)),
            BarColumn(bar_width=8),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[recall]}"),
            TimeRemainingColumn(compact=True),
            console=errors,
            refresh_per_second=4,
        )

    def __enter__(self) -> "_Bars":
        self._progress.start()
        self._phases = hosted(self._progress, loss="", rate="", recall="")
        self._phases.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._phases.__exit__(None, None, None)
        self._progress.stop()

    def show(self, event: Event) -> None:
        match event:
            case RunStarted() | RunResumed():
                self._tasks[event.run] = self._progress.add_task(
                    event.run, total=self._num_steps, completed=event.step, loss="-", rate="", recall=""
                )
                for name, task in zip(told_apart(list(self._tasks), NAME_WIDTH), self._tasks.values(), strict=True):
                    self._progress.update(task, description=name)
            case StepDone():
                self._update(event, loss=f"loss {event.loss:.3f}", rate=rate(event.pairs_per_s))
            case EvalStarted() if hint := _test_hint(event):
                self._progress.console.print(f"{event.run} {hint}", markup=False)
            case EvalDone():
                self._update(event, recall=_recall(event, "I", "T"))
            case StageStarted():
                self._progress.console.print(f"{escape(event.run)} {escape(_stage(event))}")
            case RunFinished() if event.state != "finished":
                self._progress.console.print(f"{escape(event.run)} {escape(_ending(event))}")
            case Warned():
                self._progress.console.print(f"[yellow]{escape(event.run)}: {escape(event.message)}")

    def _update(self, event: Event, **fields: str) -> None:
        self._progress.update(self._tasks[event.run], completed=event.step, **fields)  # type: ignore[arg-type]  # fields


class _Lines:
    def __init__(self, num_steps: int) -> None:
        self._num_steps = num_steps
        self._next: dict[str, float] = {}  # by run: the step from which on it is shown again

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, event: Event) -> None:
        match event:
            case RunStarted() | RunResumed():
                self._next.setdefault(event.run, 0)
            case StepDone() if event.step >= self._next.get(event.run, 0):
                self._next[event.run] = event.step + PLAIN_EVERY * self._num_steps
                left_s = (self._num_steps - event.step) * event.step_time_s
                others = f" in each of {len(self._next)} runs" if len(self._next) > 1 else ""
                numbers = f"loss {event.loss:.3f}  {rate(event.pairs_per_s)}{others}  {duration(left_s)} left"
                self._say(event, f"step {event.step}/{self._num_steps}  {numbers}")
            case EvalStarted() if hint := _test_hint(event):
                self._say(event, hint)
            case EvalDone():
                self._say(event, f"{event.split} R@1 {_recall(event, 'image', 'text')}".rstrip())
            case StageStarted():
                self._say(event, _stage(event))
            case RunFinished():
                self._next.pop(event.run, None)
                self._say(event, _ending(event))
            case Warned():
                self._say(event, event.message)

    @staticmethod
    def _say(event: Event, text: str) -> None:
        errors.print(f"{event.run}  {text}", markup=False, soft_wrap=True)
