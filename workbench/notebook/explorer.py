"""What all explorers share: controls, a picture, errors as a line, and going on by itself while a run does."""

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

from workbench.figures.style import save_figure, style, take_words_as_they_are
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import TAKES_COMMANDS, run_status

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 130  # of a picture on the screen; what is saved is finer, or lines
INCH_PX = 96  # how large an inch of a figure is on a page
LOOK_EVERY_S = 2.0
POLL_S = 0.2
Stamp = tuple[int, ...]
SLOT = "workbench-error"  # the class of the line that says what is wrong: empty while all is well


class Explorer(ABC):
    """A picture with controls under it. What is wrong is a line beneath, and :attr:`error`.

    A subclass makes its controls, names them to :meth:`watch`, and ends its constructor with :meth:`refresh`.

    Args:
        run: looked at every two seconds and read anew when it has gone on, until it has ended; None for what is still.
    """

    def __init__(self, run: RunDirectory | None = None) -> None:
        self.run = run
        self.picture = widgets.Image(format="png", layout=widgets.Layout(max_width="100%", display="none"))
        self.note = widgets.HTML()
        self.message = widgets.HTML()
        self.message.add_class(SLOT)
        self.controls = widgets.VBox([])
        self.widget = widgets.VBox([self.controls, self.picture, self.note, self.message])
        self._figure: Figure | None = None
        self._problem: Exception | None = None
        self._is_quiet = False
        self._follower: asyncio.Task[None] | None = None

    @abstractmethod
    def load(self) -> None:
        """Read what there is, and fit the controls to it. ValueError: it cannot be shown, and why."""

    @abstractmethod
    def draw(self) -> "Figure":
        """The picture that the controls ask for. ValueError: there is none, and why."""

    def update(self, figure: "Figure") -> bool:
        """Let the picture follow the controls without drawing it anew, where that is possible; whether it was."""
        del figure
        return False

    @property
    def error(self) -> Exception | None:
        """What the line under the picture says is wrong, with its traceback; None while all is well."""
        return self._problem

    @property
    def figure(self) -> "Figure":
        """The picture as it is now, of matplotlib.

        Raises:
            Exception: what is wrong, where there is none.
        """
        self.check()
        assert self._figure is not None
        return self._figure

    def save(self, path: str | Path) -> Path:
        """Write the picture as it is now: .pdf or .svg for print, or .png.

        Raises:
            ValueError: another suffix; or what is wrong, where there is no picture.
        """
        return save_figure(self.figure, path)

    def check(self) -> None:
        """Raise what is wrong, if something is: what is asked of an explorer in Python must not be an empty answer."""
        if self._problem is not None:
            raise self._problem

    def refresh(self) -> None:
        """Read everything anew and draw it. A run that goes on is followed from then on."""
        seen = self.stamp()
        with self._explained():
            with self._quietly():
                self.load()
            seen = seen or self.stamp()
            self._show(self.draw())
        if seen:
            self._follow(seen)

    def stamp(self) -> Stamp:
        """What changes when there is something new to read; empty of what is still."""
        return stamp_of(self.run) if self.run else ()

    @property
    def goes_on(self) -> bool:
        """Whether there may be something new later."""
        return self.run is not None and run_status(self.run).state in TAKES_COMMANDS

    async def ended(self) -> None:
        """Wait until there is nothing more to come; the picture goes on meanwhile."""
        while self.goes_on:
            await asyncio.sleep(POLL_S)
        self.refresh()

    def watch(self, *controls: Any) -> None:
        """Draw anew whenever one of these changes its value."""
        for control in controls:
            control.observe(self._changed, names="value")

    def watch_scale(self, slider: Any) -> None:
        """Draw anew with a :func:`scale_slider`: one that is dragged is meant, and unticks its box."""

        def choose() -> None:
            if slider.own.value:
                slider.own.value = False
            else:
                self.follow_controls()

        slider.observe(self.guard(choose), names="value")
        self.watch(slider.own)

    def guard(self, action: Callable[[], None]) -> Callable[[Any], None]:
        """``action`` as what a control calls: what goes wrong in it is a line under the picture."""

        def called(_: Any) -> None:
            with self._explained():
                action()

        return called

    def _changed(self, _: Any) -> None:
        if self._is_quiet:
            return
        with self._explained():
            self.follow_controls()

    def follow_controls(self) -> None:
        """Show what the controls ask for, in the picture that is there where that can follow them."""
        figure = self._figure
        self._show(figure if figure is not None and self.update(figure) else self.draw())

    def _show(self, figure: "Figure") -> None:
        self._figure = figure
        self.picture.value = to_png(figure)
        self.picture.layout.display = "block"
        self.picture.layout.width = f"{figure.get_figwidth() * INCH_PX:.0f}px"

    @contextlib.contextmanager
    def _quietly(self) -> Any:
        """Controls may be changed within without a picture for every change."""
        self._is_quiet = True
        try:
            yield
        finally:
            self._is_quiet = False

    @contextlib.contextmanager
    def _explained(self) -> Any:
        """An exception within is said in a line, and kept; without one, the line is empty."""
        try:
            yield
        except (ValueError, OSError) as error:
            self._complain(error, str(error))
        except Exception as error:  # a fault of ours: said too, for a notebook would show nothing at all
            self._complain(error, f"{type(error).__name__}: {error} (see .error)")
        else:
            self._problem, self.message.value = None, ""

    def _complain(self, error: Exception, text: str) -> None:
        line = " ".join(text.split())
        self._problem = error
        self.message.value = f'<span style="color:#B03A00">{escape(line)}</span>'

    def _follow(self, seen: Stamp) -> None:
        """Look now and then at what goes on, where there is a loop to do so in."""
        if self._follower is None:
            with contextlib.suppress(RuntimeError):  # no loop: nobody is looking
                self._follower = asyncio.get_running_loop().create_task(_keep_up(weakref.ref(self), seen))

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """The widget, and for what knows no widgets, such as print, the picture."""
        bundle = dict(self.widget._repr_mimebundle_(**options) or {})
        if self.picture.value:
            bundle["image/png"] = b64encode(self.picture.value).decode()
        return bundle


async def _keep_up(of: "weakref.ref[Explorer]", seen: Stamp) -> None:
    """Refresh the explorer when there is something new, and once at the end, until that or until it is gone."""
    goes_on, went_on = True, False
    while goes_on:
        explorer = of()
        if explorer is None:
            return
        goes_on = explorer.goes_on
        del explorer
        await asyncio.sleep(LOOK_EVERY_S if goes_on else 0)
        explorer = of()
        if explorer is None:
            return
        if (now := explorer.stamp()) != seen or (went_on and not goes_on):
            seen = now
            explorer.refresh()
        went_on = goes_on
        del explorer


def stamp_of(run: RunDirectory) -> Stamp:
    """What changes when a run says or saves something."""
    found: list[int] = []
    for path in (run.events_file, run.snapshots):
        with contextlib.suppress(OSError):
            status = path.stat()
            found += [status.st_mtime_ns, status.st_size]
    return tuple(found)


def to_png(figure: "Figure") -> bytes:
    """The figure as a picture for the screen."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    held = BytesIO()
    figure.set_dpi(DOTS_PER_INCH)
    canvas: Any = figure.canvas  # half the time of savefig, which draws twice
    if not isinstance(canvas, FigureCanvasAgg):
        canvas = FigureCanvasAgg(figure)  # it stays the figure's, and knows how large its words are the next time
    take_words_as_they_are(figure)
    with style():
        canvas.draw()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(held, "png", compress_level=1)
    return held.getvalue()


def show(figure: "Figure") -> Any:
    """A figure of ``figures`` in a notebook, as large as an explorer's."""
    from IPython import display

    displayed: Any = display.Image
    return displayed(to_png(figure), format="png", width=round(figure.get_figwidth() * INCH_PX))


def row(*controls: Any) -> Any:
    """Controls side by side, on further lines where a page is too narrow."""
    return widgets.HBox(controls, layout=widgets.Layout(flex_flow="row wrap", align_items="center"))


def step_slider(label: str = "step") -> Any:
    """A slider over steps that :func:`set_steps` names, and a button that plays them."""
    slider = widgets.SelectionSlider(
        options=[("", 0)], description=label, layout=widgets.Layout(width="420px"), continuous_update=True
    )
    play = widgets.Play(min=0, max=0, interval=400)
    widgets.jslink((play, "value"), (slider, "index"))
    slider.play = play
    return slider


def scale_slider(scale: float, own: str) -> Any:
    """A slider over 1/τ, and a box with these words that puts what the models learnt in its place."""
    slider = widgets.FloatLogSlider(value=scale, min=0, max=2.3, step=0.02, description="1/τ")
    slider.own = widgets.Checkbox(value=True, description=own, indent=False)
    slider.own.layout.width = "auto"
    return slider


def set_steps(slider: Any, steps: Sequence[int]) -> None:
    """Offer these steps; the newest stays chosen where it was, any other where it still is."""
    was_newest = slider.index is None or slider.index == len(slider.options) - 1
    chosen = slider.value
    slider.options = [(f"{step:,}", step) for step in steps]
    slider.play.max = len(steps) - 1
    slider.value = steps[-1] if was_newest or chosen not in steps else chosen
