"""The base class of the explorers, with one that draws a number."""

import asyncio
import io
from pathlib import Path
from typing import Any

import ipywidgets
import pytest
from PIL import Image

from workbench.events import RunFinished, StepDone
from workbench.notebook import explorer as module
from workbench.notebook.explorer import Explorer, set_steps, step_slider
from workbench.runs.directory import RunDirectory, create_run
from workbench.runs.liveness import RunLock
from workbench.runs.log import EventLog, read_events


class Counter(Explorer):
    """Draws as many dots as its slider's value; a ValueError at 3, a bug at 4."""

    def __init__(self, run: RunDirectory | None = None) -> None:
        super().__init__(run)
        self.number = ipywidgets.IntSlider(value=1, min=0, max=9)
        self.num_loads = self.num_draws = 0
        self.controls.children = (self.number,)
        self.watch(self.number)
        self.refresh()

    def load(self) -> None:
        self.num_loads += 1
        if self.run is not None:
            self.number.value = len(read_events(self.run.events_file).events)

    def draw(self) -> Any:
        from matplotlib.figure import Figure

        self.num_draws += 1
        if self.number.value == 3:
            raise ValueError("three is <too> many\nremedy: two")
        if self.number.value == 4:
            raise KeyError("four")
        figure = Figure(figsize=(3, 2))
        figure.subplots().plot(range(self.number.value), marker="o")
        return figure


def test_a_control_redraws_and_the_image_has_the_figures_size() -> None:
    counter = Counter()
    first = counter.image.value
    counter.number.value = 2
    assert counter.image.value != first
    assert Image.open(io.BytesIO(counter.image.value)).size == (390, 260)
    assert counter.image.layout.width == "288px"
    assert counter.message.value == ""


def test_an_error_is_one_escaped_line_and_is_raised_by_properties(tmp_path: Path) -> None:
    counter = Counter()
    before = counter.image.value
    counter.number.value = 3
    assert "three is &lt;too&gt; many remedy: two" in counter.message.value
    assert counter.image.value == before
    assert isinstance(counter.error, ValueError)
    with pytest.raises(ValueError, match="three"):
        counter.save(tmp_path / "x.svg")
    counter.number.value = 2
    assert (counter.message.value, counter.error) == ("", None)
    assert counter.save(tmp_path / "x.svg").read_text().startswith("<?xml")


def test_a_bug_is_shown_too() -> None:
    counter = Counter()
    counter.number.value = 4
    assert "KeyError" in counter.message.value
    assert isinstance(counter.error, KeyError)
    assert counter.error.__traceback__ is not None


def test_it_is_a_widget_with_a_png_for_print() -> None:
    bundle = Counter()._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["image/png"].startswith("iVBOR")


def test_a_running_run_is_followed_until_it_ends(tmp_path: Path, monkeypatch, done) -> None:
    monkeypatch.setattr(module, "REFRESH_EVERY_S", 0.02)
    run = create_run(tmp_path, "live", "")

    async def watch() -> list[int]:
        with RunLock(run), EventLog(run.events_file) as log:
            log.append(done("live", 1))
            counter = Counter(run)
            seen = [counter.number.value]
            log.append(done("live", 2))
            await asyncio.sleep(0.3)
            seen.append(counter.number.value)
            log.append(RunFinished(run="live", step=2, state="finished", elapsed_s=1.0))
        await asyncio.wait_for(counter._follower, 10)
        return seen

    assert asyncio.run(watch()) == [1, 2]


@pytest.fixture
def done() -> Any:
    def event(run: str, step: int) -> StepDone:
        numbers = dict.fromkeys(
            ("learning_rate", "grad_norm", "step_time_s", "pairs_per_s", "elapsed_s", "peak_mb"), 1.0
        )
        return StepDone(run=run, step=step, loss=1.0, terms={}, weighted={}, scales={}, **numbers)

    return event


def test_the_selected_step_stays_when_steps_are_added() -> None:
    slider = step_slider()
    set_steps(slider, [1, 10])
    assert slider.value == 10
    set_steps(slider, [1, 10, 20])
    assert slider.value == 20
    slider.value = 10
    set_steps(slider, [1, 10, 20, 30])
    assert (slider.value, slider.play.max) == (10, 3)
    set_steps(slider, [20, 30])
    assert slider.value == 30
