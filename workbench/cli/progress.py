"""Progress of runs on stderr, as bars in a terminal and as lines elsewhere; and signals that stop a run."""

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TextIO, TypeVar, cast

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from workbench.cli.output import errors
from workbench.events import (
    DENSE,
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
from workbench.formatting import distinct_names, duration, rate
from workbench.process import launched_rank
from workbench.progress import hosted
from workbench.views.metrics import metric_label

# Ctrl-C, SIGTERM, SIGHUP (the terminal closes) and SIGUSR1 (a cluster's warning before the time limit) stop a run: it
# finishes its step and saves. A second signal ends it at once, except SIGHUP: shells and kernels send that one twice,
# and after SIGTERM; SIGUSR1, since Slurm sends it to every process of a job, and launchers also pass it on; and, in the
# ranks of a launcher, SIGTERM, for the same reason.

T = TypeVar("T")
HANGUP = getattr(signal, "SIGHUP", None)  # Windows has neither this nor SIGUSR1
REPEATED = (HANGUP, getattr(signal, "SIGUSR1", None))
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name))
GONE = (errno.EIO, errno.EPIPE)  # a closed terminal, and a pipe whose reader has ended


class Interrupt:
    """The first signal received, if any; calling it returns whether there was one."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __call__(self) -> bool:
        return self.number is not None

    @property
    def exit_code(self) -> int:
        """The shell's convention: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP, 138 after SIGUSR1; else 0."""
        return 0 if self.number is None else 128 + self.number


@contextmanager
def interruptible(*, prints: bool = True) -> Iterator[Interrupt]:
    """While the block runs, record the first signal instead of ending; the handlers are restored at the end.

    SIGHUP stays ignored where it was ignored, as under ``nohup``. Output to a closed terminal or pipe is dropped, since
    a write error must not end a run while it saves.
    """
    interrupt = Interrupt()

    def handle(number: int, _: FrameType | None) -> None:
        if interrupt():
            if number in REPEATED or (number == signal.SIGTERM and launched_rank() is not None):
                return
            raise KeyboardInterrupt
        interrupt.number = number
        if prints:
            print("\nfinishing this step and saving; press again to quit at once", file=sys.stderr)

    handled = [one for one in SIGNALS if one != HANGUP or signal.getsignal(one) != signal.SIG_IGN]
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _DroppingStream(stream)) for stream in streams)
    before = {number: signal.signal(number, handle) for number in handled}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if interrupt.number is None or interrupt.number != HANGUP:  # else the summary has no terminal either
            sys.stdout, sys.stderr = streams


class _DroppingStream:
    """A stream that drops output once its terminal or reader is gone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._attempt(lambda: self._stream.write(text))

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _attempt(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except OSError as error:
            if error.errno not in GONE:
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            return act()


NAME_WIDTH = 16  # keeps a line of bars within 80 columns
MANY_PAIRS = 1000  # test pairs from which on evaluation takes long enough for a hint
PLAIN_EVERY = 0.1  # of the run's steps, between two lines without a terminal


def show(events: Iterable[Event], num_steps: int) -> Iterator[Event]:
    """Pass the events on and show them on stderr; if showing fails, report it once and go on without."""
    view = _Bars(num_steps) if errors.is_terminal else _Lines(num_steps)
    is_shown = True
    warned: set[tuple[int, str]] = set()  # a warning of all members of a cohort is shown once
    with view:
        for event in events:
            is_new = not (isinstance(event, Warned) and (event.step, event.message) in warned)
            if is_shown and is_new:
                is_shown = _is_shown(view, event)
            if isinstance(event, Warned):
                warned.add((event.step, event.message))
            yield event


def _is_shown(view: "_Bars | _Lines", event: Event) -> bool:
    """Show the event; False if that failed. A display error must not end hours of training."""
    try:
        view.show(event)
    except Exception as error:
        message = f"progress is no longer shown ({type(error).__name__}: {error}); training continues"
        with suppress(Exception):
            text = f"workbench: {message}, see it with: workbench runs show {event.run}"
            errors.print(text, markup=False, soft_wrap=True)
        return False
    return True


def _recall(event: EvalDone, image: str, text: str) -> str:
    """Recall@1 in both directions, such as "I→T 1.7 T→I 3.3 %", or a detector's AP; empty if not measured."""
    if event.split == DENSE:
        labels = {metric_label(name): event.metrics[name] for name in ("box_ap", "mask_ap") if name in event.metrics}
        return f"{' '.join(f'{label.label} {label.number(value)}' for label, value in labels.items())} %"
    directions = {"image_to_text_r1": f"{image}→{text}", "text_to_image_r1": f"{text}→{image}"}
    measured = {name: metric_label(name).number(event.metrics[name]) for name in directions if name in event.metrics}
    found = [f"{directions[name]} {number}" for name, number in measured.items()]
    return f"{' '.join(found)} %" if found else ""


def _test_hint(event: EvalStarted) -> str:
    """The number of test pairs, and how to skip them; empty for validation or few pairs."""
    if event.split != "test" or event.num_pairs < MANY_PAIRS:
        return ""
    return f"evaluating {event.num_pairs:,} test pairs (skip with --no-test or --set data.test=)"


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
                for name, task in zip(distinct_names(list(self._tasks), NAME_WIDTH), self._tasks.values(), strict=True):
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
        self._next: dict[str, float] = {}  # by run: the step of its next line

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
                self._print(event, f"step {event.step}/{self._num_steps}  {numbers}")
            case EvalStarted() if hint := _test_hint(event):
                self._print(event, hint)
            case EvalDone():
                what = event.split if event.split == DENSE else f"{event.split} R@1"
                self._print(event, f"{what} {_recall(event, 'image', 'text')}".rstrip())
            case StageStarted():
                self._print(event, _stage(event))
            case RunFinished():
                self._next.pop(event.run, None)
                self._print(event, _ending(event))
            case Warned():
                self._print(event, event.message)

    @staticmethod
    def _print(event: Event, text: str) -> None:
        errors.print(f"{event.run}  {text}", markup=False, soft_wrap=True)
