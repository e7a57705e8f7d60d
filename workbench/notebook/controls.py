"""Controls of the explorers: rows, buttons, sliders, a progress bar, an image that can be clicked, and cards."""

import math
import time
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from typing import Any, ClassVar

import anywidget
import ipywidgets as widgets
import traitlets

from workbench.formatting import duration

LOG_STEP = 0.02  # of the powers of ten of a slider


def buttons(options: Sequence[str], value: str) -> Any:
    """Buttons of which one is pressed, each as wide as its label."""
    return widgets.ToggleButtons(options=options, value=value, style={"button_width": "auto"})


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


def log_slider(value: float, powers: tuple[float, float], description: str, **layout: str) -> Any:
    """A slider over a range of powers of ten, at the value of its grid that is nearest to ``value``.

    The browser moves any other value to the grid when the slider is displayed, and reports that as a change.
    """
    low, high = powers
    nearest = 10 ** (low + round((math.log10(value) - low) / LOG_STEP) * LOG_STEP)
    own = widgets.Layout(**layout)
    return widgets.FloatLogSlider(value=nearest, min=low, max=high, step=LOG_STEP, description=description, layout=own)


def is_moved(change: Any) -> bool:
    """Whether a change of a :func:`log_slider` is at least half a step of its grid; else the browser has rounded it."""
    return abs(math.log10(change["new"] / change["old"])) > LOG_STEP / 2


def scale_slider(scale: float, own: str) -> Any:
    """A slider over 1/τ, with a checkbox labeled ``own`` as ``.own`` that selects the learned scales instead."""
    slider = log_slider(scale, (0, 2.3), "1/τ")
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


class Bar:
    """A progress bar with an estimate of the remaining time.

    Attributes:
        widget: to be displayed.
    """

    def __init__(self, total: int, label: str) -> None:
        self._label, self._start = label, time.monotonic()
        self._bar = widgets.IntProgress(max=max(total, 1), layout=widgets.Layout(width="320px"))
        self._line = widgets.HTML(label)
        self.widget = row(self._bar, self._line)
        self.widget.layout.grid_gap = "8px"

    def add(self, number: int) -> None:
        """Advance by ``number``."""
        self.show(self._bar.value + number, self._bar.max, time.monotonic() - self._start)

    def show(self, done: int, total: int, elapsed_s: float) -> None:
        """Show ``done`` of ``total`` after ``elapsed_s`` seconds."""
        self._bar.max, self._bar.value = max(total, 1), done
        rest = "" if not 0 < done < total else f", about {duration(elapsed_s / done * (total - done))} left"
        self._line.value = f"{self._label}: {done:,} of {total:,}{rest}"

    def set_text(self, text: str) -> None:
        """Show ``text`` in place of the numbers."""
        self._line.value = text

    def end(self, text: str = "", *, success: bool = True) -> None:
        """Fill the bar, in green or, without success, in orange."""
        self._bar.bar_style = "success" if success else "warning"
        self._bar.value = self._bar.max
        self._line.value = text or f"{self._label}: done in {duration(time.monotonic() - self._start)}"


SCRIPT = """
function render({ model, el }) {
  const image = document.createElement("img");
  image.style.width = "100%";
  image.style.cursor = "crosshair";
  const show = () => {
    const before = image.src;
    image.src = URL.createObjectURL(new Blob([model.get("value")], { type: "image/png" }));
    if (before) URL.revokeObjectURL(before);
  };
  image.addEventListener("click", (event) => {
    const box = image.getBoundingClientRect();
    model.set("clicked", [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]);
    model.save_changes();
  });
  model.on("change:value", show);
  show();
  el.appendChild(image);
}
export default { render };
"""


class ClickableImage(anywidget.AnyWidget):
    """A png that reports clicks: ``clicked`` is [x, y] in [0, 1] from the upper left corner, empty at first."""

    _esm: ClassVar[str] = SCRIPT
    value = traitlets.Bytes(b"").tag(sync=True)
    clicked = traitlets.List(traitlets.Float(), []).tag(sync=True)


THUMBNAIL_PX = 112


def card(title: str, image: bytes | None, caption: str) -> str:
    """One item as HTML: a title, its encoded image if given, and its caption."""
    thumbnail = ""
    if image:
        kind = "webp" if image[8:12] == b"WEBP" else "png" if image[1:4] == b"PNG" else "jpeg"
        source = f"data:image/{kind};base64,{b64encode(image).decode()}"
        thumbnail = f'<img src="{source}" width="{THUMBNAIL_PX}" style="image-rendering:pixelated"><br>'
    return (
        f'<div style="display:inline-block;width:220px;vertical-align:top;line-height:1.35;margin-right:12px">'
        f"<b>{escape(title)}</b><br>{thumbnail}{escape(caption)}</div>"
    )
