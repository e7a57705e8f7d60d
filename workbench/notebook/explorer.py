"""The base class of the notebook explorers: controls, a figure, an error line, and following a run in training."""

import asyncio
import contextlib
import weakref
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Callable, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from workbench.figures.style import disable_math_text, save_figure, style
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import TAKES_COMMANDS, run_status

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 130  # on the screen; saved figures have more, or are vector graphics
INCH_PX = 96  # display size of an inch of a figure
REFRESH_EVERY_S = 2.0
POLL_S = 0.2
Stamp = tuple[int, ...]
SLOT = "workbench-error"  # CSS class of the error line


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
        self._error: Exception | None = None
        self._is_loading = False
        self._follower: asyncio.Task[None] | None = None

    @abstractmethod
    def load(self) -> None:
        """Read the data and adapt the controls. Raises ValueError if there is nothing to show."""

    @abstractmethod
    def draw(self) -> "Figure":
        """A new figure for the controls' values. Raises ValueError if there is nothing to show."""

    def update(self, figure: "Figure") -> bool:
        """Update ``figure`` in place to the controls' values, which is faster; False if a new figure is needed."""
        del figure
        return False

    @property
    def error(self) -> Exception | None:
        """The exception shown below the figure, with its traceback; None without an error."""
        return self._error

    @property
    def figure(self) -> "Figure":
        """The current matplotlib figure.

        Raises:
            Exception: the current :attr:`error`.
        """
        self.check()
        assert self._figure is not None
        return self._figure

    def save(self, path: str | Path) -> Path:
        """Write the current figure to .pdf, .svg or .png.

        Raises:
            ValueError: another suffix.
            Exception: the current :attr:`error`.
        """
        return save_figure(self.figure, path)

    def check(self) -> None:
        """Raise the current :attr:`error`, if any, so that properties never return stale or empty results."""
        if self._error is not None:
            raise self._error

    def refresh(self) -> None:
        """Read the data again and draw it. A run in training is followed from then on."""
        seen = self.stamp()  # before reading: a change in between leads to another refresh, not a missed one
        with self._errors_shown():
            with self._loading():
                self.load()
            seen = seen or self.stamp()
            self._show(self.draw())
        if seen:
            self._follow(seen)

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
        for control in controls:
            control.observe(self._changed, names="value")

    def watch_scale(self, slider: Any) -> None:
        """Redraw when a :func:`scale_slider` changes; moving the slider unticks its box."""

        def choose() -> None:
            if slider.own.value:
                slider.own.value = False
            else:
                self.follow_controls()

        slider.observe(self.guard(choose), names="value")
        self.watch(slider.own)

    def guard(self, action: Callable[[], None]) -> Callable[[Any], None]:
        """``action`` as a callback of a control, with errors shown below the figure."""

        def called(_: Any) -> None:
            with self._errors_shown():
                action()

        return called

    def _changed(self, _: Any) -> None:
        if self._is_loading:
            return
        with self._errors_shown():
            self.follow_controls()

    def follow_controls(self) -> None:
        """Show the controls' values, in the current figure if it can be updated."""
        figure = self._figure
        self._show(figure if figure is not None and self.update(figure) else self.draw())

    def _show(self, figure: "Figure") -> None:
        self._figure = figure
        self.image.value = to_png(figure)
        self.image.layout.display = "block"
        self.image.layout.width = f"{figure.get_figwidth() * INCH_PX:.0f}px"

    @contextlib.contextmanager
    def _loading(self) -> Any:
        """Context in which changes of controls do not redraw."""
        self._is_loading = True
        try:
            yield
        finally:
            self._is_loading = False

    @contextlib.contextmanager
    def _errors_shown(self) -> Any:
        """Context that shows and keeps an exception, or clears the previous one."""
        try:
            yield
        except (ValueError, OSError) as error:
            self._show_error(error, str(error))
        except Exception as error:  # a bug: widget callbacks would swallow it silently
            self._show_error(error, f"{type(error).__name__}: {error} (see .error)")
        else:
            self._error, self.message.value = None, ""

    def _show_error(self, error: Exception, text: str) -> None:
        line = " ".join(text.split())
        self._error = error
        self.message.value = f'<span style="color:#B03A00">{escape(line)}</span>'

    def _follow(self, seen: Stamp) -> None:
        """Start the polling task, once, if there is a running event loop."""
        if self._follower is None:
            with contextlib.suppress(RuntimeError):  # no event loop: not in a notebook
                # A weak reference: the task must not keep an explorer alive whose cell was run again.
                self._follower = asyncio.get_running_loop().create_task(_refresh_on_change(weakref.ref(self), seen))

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


def row(*controls: Any) -> Any:
    """Controls in a row that wraps on a narrow page."""
    return widgets.HBox(controls, layout=widgets.Layout(flex_flow="row wrap", align_items="center"))


def step_slider(label: str = "step") -> Any:
    """A slider over the steps given to :func:`set_steps`, with a play button as ``.play``."""
    slider = widgets.SelectionSlider(
        options=[("", 0)], description=label, layout=widgets.Layout(width="420px"), continuous_update=True
    )
    play = widgets.Play(min=0, max=0, interval=400)
    widgets.jslink((play, "value"), (slider, "index"))
    slider.play = play
    return slider


def scale_slider(scale: float, own: str) -> Any:
    """A slider over 1/τ, with a checkbox labeled ``own`` as ``.own`` that selects the learned scales instead."""
    slider = widgets.FloatLogSlider(value=scale, min=0, max=2.3, step=0.02, description="1/τ")
    slider.own = widgets.Checkbox(value=True, description=own, indent=False)
    slider.own.layout.width = "auto"
    return slider


def set_steps(slider: Any, steps: Sequence[int]) -> None:
    """Set the steps of a slider. The newest stays selected if it was; any other does if it is still there."""
    was_newest = slider.index is None or slider.index == len(slider.options) - 1
    chosen = slider.value
    slider.options = [(f"{step:,}", step) for step in steps]
    slider.play.max = len(steps) - 1
    slider.value = steps[-1] if was_newest or chosen not in steps else chosen
