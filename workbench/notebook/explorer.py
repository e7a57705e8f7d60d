"""The base class of the notebook explorers: finding a run, controls, a figure, an error line, following a run."""

import asyncio
import contextlib
import os
import weakref
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Callable, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from workbench.errors import unknown
from workbench.figures.style import disable_math_text, save_figure, style
from workbench.notebook.controls import is_moved
from workbench.notebook.released import SHIPPED, is_model
from workbench.resources import find_resource, roots
from workbench.runs.directory import RunDirectory, find_run, list_runs
from workbench.runs.liveness import TAKES_COMMANDS, run_status
from workbench.runs.snapshots import AnySnapshot, Probe, ProbeOutputs, read_snapshot_history

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from workbench.embeddings import Embeddings

DOTS_PER_INCH = 130  # on the screen; saved figures have more, or are vector graphics
INCH_PX = 96  # display size of an inch of a figure
REFRESH_EVERY_S = 2.0
POLL_S = 0.2
Stamp = tuple[int, ...]
SLOT = "workbench-error"  # CSS class of the error line
USUAL = (Path("runs"), Path("..") / "runs")  # next to the notebook, or to its folder


def default_runs_dir() -> Path:
    """``$WORKBENCH_RUNS``, which ``workbench notebook`` sets; else the first existing folder of ``USUAL``."""
    if chosen := os.environ.get("WORKBENCH_RUNS"):
        return Path(chosen).expanduser()
    return next((folder for folder in USUAL if folder.is_dir()), USUAL[0])


def open_run(run: str | Path | RunDirectory, runs_dir: Path | None = None) -> RunDirectory:
    """The run with this id or path, from the user's runs folder or the shipped runs.

    Raises:
        ValueError: there is no such run; the message suggests the nearest id.
    """
    if isinstance(run, RunDirectory):
        return run
    folder = default_runs_dir() if runs_dir is None else runs_dir
    try:
        return find_run(folder, run)
    except ValueError:
        if shipped := find_resource(str(SHIPPED / run)):
            found = RunDirectory(shipped.resolve())
            if found.exists:
                return found
        known = [one.id for one in list_runs(folder)] + shipped_runs()
        raise unknown("run", str(run), known) from None


def shipped_runs() -> list[str]:
    """The ids of the runs that ship with the package."""
    return sorted({run.id for root in roots() for run in list_runs(root / SHIPPED)})


class Explorer(ABC):
    """A figure with controls. Errors are shown in a line below it and kept in :attr:`error`.

    A subclass creates its controls, passes them to :meth:`watch`, and calls :meth:`refresh` at the end of its
    constructor.

    Args:
        run: polled every two seconds and read again when it changes, until it ends; None for fixed data.
    """

    def __init__(self, run: RunDirectory | None = None) -> None:
        self.run = run
        self.image = widgets.Image(format="png", layout=widgets.Layout(max_width="100%", display="none"))
        self.note = widgets.HTML()
        self.message = widgets.HTML()
        self.message.add_class(SLOT)
        self.controls = widgets.VBox([])
        self.widget = widgets.VBox([self.controls, self.image, self.note, self.message])
        self._figure: Figure | None = None
        self.earlier: Figure | None = None
        """The current figure, for :meth:`draw` to update in half the time; None if there is new data."""
        self.error: Exception | None = None
        """The exception shown below the figure, with its traceback; None without an error."""
        self._is_loading = False
        self._follower: asyncio.Task[None] | None = None

    @abstractmethod
    def load(self) -> None:
        """Read the data and adapt the controls. Raises ValueError if there is nothing to show."""

    @abstractmethod
    def draw(self) -> "Figure":
        """The figure for the controls' values: a new one, or :attr:`earlier` updated in place.

        Raises:
            ValueError: there is nothing to show.
        """

    def read(
        self, source: str | Path | RunDirectory | Sequence[AnySnapshot], runs_dir: Path | None, kind: type[AnySnapshot]
    ) -> list[AnySnapshot]:
        """The snapshots of a run, which becomes :attr:`run`; or those given, by step.

        Raises:
            ValueError: there is no such run, or it is a model without one, and this explorer needs a run.
        """
        if isinstance(source, str | Path) and is_model(source, runs_dir or default_runs_dir()):
            raise ValueError(f"{source} is a model without a run, which has no {kind.KIND}: name a run")
        if isinstance(source, str | Path | RunDirectory):
            self.run = open_run(source, runs_dir)
            return read_snapshot_history(self.run, kind).snapshots
        return sorted(source, key=lambda one: one.step)

    @property
    def figure(self) -> "Figure":
        """The current matplotlib figure. Raises the current :attr:`error`."""
        self.check()
        assert self._figure is not None
        return self._figure

    def save(self, path: str | Path) -> Path:
        """Write the current figure to .pdf, .svg or .png. Raises the current :attr:`error`."""
        return save_figure(self.figure, path)

    def check(self) -> None:
        """Raise the current :attr:`error`, if any, so that properties never return stale or empty results."""
        if self.error is not None:
            raise self.error

    def refresh(self) -> None:
        """Read the data again and draw it. A run in training is followed from then on."""
        seen = self.stamp()  # before reading: a change in between leads to another refresh, not a missed one
        with self._errors_shown():
            self._is_loading = True  # controls that it changes do not redraw
            try:
                self.load()
            finally:
                self._is_loading = False
            seen = seen or self.stamp()
            self.earlier = None
            self.redraw()
        if seen and self._follower is None:
            with contextlib.suppress(RuntimeError):  # no event loop: not in a notebook
                # A weak reference: the task must not keep an explorer alive whose cell was run again.
                self._follower = asyncio.get_running_loop().create_task(_refresh_on_change(weakref.ref(self), seen))

    def stamp(self) -> Stamp:
        """A value that changes when there is new data; empty for fixed data."""
        return stamp_of(self.run) if self.run else ()

    @property
    def is_running(self) -> bool:
        """Whether new data may follow."""
        return self.run is not None and run_status(self.run).state in TAKES_COMMANDS

    async def ended(self) -> None:
        """Wait until the run has ended; the figure is updated meanwhile."""
        while self.is_running:
            await asyncio.sleep(POLL_S)
        self.refresh()

    def watch(self, *controls: Any) -> None:
        """Redraw whenever one of these controls changes its value."""

        def change() -> None:
            if not self._is_loading:
                self.redraw()

        for control in controls:
            control.observe(self.guard(change), names="value")

    def watch_scale(self, slider: Any) -> None:
        """Redraw when a :func:`scale_slider` changes; moving the slider unticks its box."""

        def choose() -> None:
            if slider.own.value:
                slider.own.value = False
            else:
                self.redraw()

        chosen = self.guard(choose)
        slider.observe(lambda change: chosen(change) if is_moved(change) else None, names="value")
        self.watch(slider.own)

    def guard(self, action: Callable[[], None]) -> Callable[[Any], None]:
        """``action`` as a callback of a control, with errors shown below the figure."""

        def called(_: Any) -> None:
            with self._errors_shown():
                action()

        return called

    def redraw(self) -> None:
        """Draw the figure for the controls' values and show it."""
        self.show_figure(self.draw())

    def show_figure(self, figure: "Figure") -> None:
        """Show a figure, or the current one after a change."""
        self._figure = self.earlier = figure
        self.image.value = to_png(figure)
        self.image.layout.display = "block"
        self.image.layout.width = f"{figure.get_figwidth() * INCH_PX:.0f}px"

    @contextlib.contextmanager
    def _errors_shown(self) -> Any:
        """Context that shows and keeps an exception, or clears the previous one."""
        self.error = None  # now: properties that drawing reads would raise it
        try:
            yield
        except Exception as error:  # also a bug: widget callbacks would swallow it silently
            is_bug = not isinstance(error, ValueError | OSError)
            text = f"{type(error).__name__}: {error} (see .error)" if is_bug else str(error)
            self.error = error
            self.message.value = f'<span style="color:#B03A00">{escape(" ".join(text.split()))}</span>'
        else:
            self.error, self.message.value = None, ""  # again: nested contexts may have failed

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """The widget, with the figure as a png for front ends without widgets, such as print and export."""
        bundle = dict(self.widget._repr_mimebundle_(**options) or {})
        if self.image.value:
            bundle["image/png"] = b64encode(self.image.value).decode()
        return bundle


async def _refresh_on_change(reference: "weakref.ref[Explorer]", seen: Stamp) -> None:
    """Refresh the explorer on new data and once when its run ends; stops then, or when the explorer is collected."""
    is_running, was_running = True, False
    while is_running:
        explorer = reference()
        if explorer is None:
            return
        is_running = explorer.is_running
        del explorer  # no strong reference while asleep
        await asyncio.sleep(REFRESH_EVERY_S if is_running else 0)
        explorer = reference()
        if explorer is None:
            return
        if (now := explorer.stamp()) != seen or (was_running and not is_running):
            seen = now
            explorer.refresh()
        was_running = is_running
        del explorer


def stamp_of(run: RunDirectory) -> Stamp:
    """Modification times and sizes of a run's event log and snapshots folder."""
    found: list[int] = []
    for path in (run.events_file, run.snapshots):
        with contextlib.suppress(OSError):
            status = path.stat()
            found += [status.st_mtime_ns, status.st_size]
    return tuple(found)


def to_png(figure: "Figure") -> bytes:
    """The figure as a png for the screen."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    held = BytesIO()
    figure.set_dpi(DOTS_PER_INCH)
    canvas: Any = figure.canvas  # half the time of savefig, which draws twice
    if not isinstance(canvas, FigureCanvasAgg):
        canvas = FigureCanvasAgg(figure)  # attaches itself to the figure, with its cache of text sizes
    disable_math_text(figure)
    with style():
        canvas.draw()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(held, "png", compress_level=1)
    return held.getvalue()


def show(figure: "Figure") -> Any:
    """Display a figure of ``workbench.figures`` in a notebook, in the size of an explorer's."""
    from IPython import display

    displayed: Any = display.Image
    return displayed(to_png(figure), format="png", width=round(figure.get_figwidth() * INCH_PX))


def probe_of(
    student: "Embeddings", teacher: "Embeddings | None" = None, captions: Sequence[str] = (), step: int = 0
) -> Probe:
    """A probe for the explorers from embeddings of the same pairs.

    Raises:
        ValueError: student, teacher and captions differ in their number of pairs.
    """

    def outputs(model: "Embeddings") -> ProbeOutputs:
        parts = [part.detach().cpu().half().numpy() for part in (model.image_BD, model.text_BD)]
        return ProbeOutputs(parts[0], parts[1], float(model.scale))

    names = tuple(captions) or tuple(f"pair {number}" for number in range(len(student)))
    sizes = {len(names), len(student), len(teacher) if teacher else len(student)}
    if len(sizes) > 1:
        raise ValueError(f"student, teacher and captions have different numbers of pairs: {sorted(sizes)}")
    return Probe(step, names, outputs(student), outputs(teacher) if teacher else None)


def nearest(probes: Sequence[Probe], step: int) -> Probe:
    """The probe whose step is nearest."""
    return min(probes, key=lambda probe: abs(probe.step - step))
