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
from workbench.notebook.controls import set_steps, step_slider
from workbench.notebook.explorer import Explorer, default_runs_dir, open_run, shipped_runs
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


def test_a_users_run_hides_a_shipped_one_with_its_name(tmp_path: Path) -> None:
    shipped = open_run("example-clip-kd", tmp_path)
    assert shipped.path.parts[-3:] == ("data_samples", "runs", "example-clip-kd")
    own = create_run(tmp_path, "example-clip-kd", "")
    assert open_run("example-clip-kd", tmp_path) == own
    assert open_run(own, tmp_path / "nowhere") is own
    assert open_run(own.path, tmp_path / "nowhere") == own


def test_for_a_misspelled_run_the_nearest_is_suggested(tmp_path: Path) -> None:
    create_run(tmp_path, "mine-long", "")
    with pytest.raises(ValueError, match="example-tinyclip"):
        open_run("example-tinyclp", tmp_path)
    with pytest.raises(ValueError, match="mine-long"):
        open_run("mine-lnog", tmp_path)


def test_the_runs_folder_is_the_commands_or_next_to_the_notebook(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("WORKBENCH_RUNS", raising=False)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert default_runs_dir() == Path("runs")
    (tmp_path / "runs").mkdir()
    assert default_runs_dir() == Path("..") / "runs"
    monkeypatch.setenv("WORKBENCH_RUNS", str(tmp_path / "elsewhere"))
    assert default_runs_dir() == tmp_path / "elsewhere"


def test_shipped_runs_are_small_finished_and_complete() -> None:
    from workbench.runs.summary import summarize

    runs = [open_run(name) for name in shipped_runs()]
    assert {run.id for run in runs} == {"example-clip-kd", "example-tinyclip"}
    sizes = [path.stat().st_size for run in runs for path in run.path.rglob("*") if path.is_file()]
    assert sum(sizes) < 2e6
    assert {summarize(run).state for run in runs} == {"finished"}
