"""``runs show --architecture``: tables, documents and figures of runs with known snapshots."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from workbench.config.inheritance import TowerShape
from workbench.events import Forked, RunFinished
from workbench.runs.directory import RunDirectory, create_run
from workbench.runs.log import EventLog
from workbench.runs.snapshots import MaskSnapshot, TowerMask, write_snapshot

SHAPE = TowerShape(width=8, head_width=4, heads=(2, 2), channels=(10, 10))


def mask(openness: float, width: int = 8, heads: tuple[int, int] = (2, 2)) -> TowerMask:
    """The leading channels and heads; half of the FFN, as open as it is said."""
    embedding_C = np.array([1.0] * width + [0.0] * (8 - width), dtype=np.float32)
    kept = tuple(np.array([1.0] * number + [0.0] * (2 - number), dtype=np.float32) for number in heads)
    halves = np.array([1.0] * 5 + [openness] * 5, dtype=np.float32)
    return TowerMask(SHAPE, embedding_C, kept, (halves, halves))


def make_run(name: str, last_step: int, *snapshots: MaskSnapshot, first: Forked | None = None) -> RunDirectory:
    run = create_run(Path("runs"), name, "")
    with EventLog(run.events_file) as log:
        if first:
            log.append(first)
        log.append(RunFinished(run=name, step=last_step, state="finished", elapsed_s=1.0))
    for snapshot in snapshots:
        write_snapshot(run, snapshot)
    return run


@pytest.fixture
def learned(workbench):
    """Two stages, the second still being learned at step 20; a snapshot beyond it is of a time that was undone."""
    make_run(
        "auto",
        20,
        MaskSnapshot(0, 0, True, 0.0, 0.0, {"text": mask(1.0)}),
        MaskSnapshot(10, 0, False, 0.25, 0.25, {"text": mask(0.0, width=4)}),
        MaskSnapshot(20, 1, True, 0.4, 0.5, {"text": mask(0.0, width=4, heads=(2, 0))}),
        MaskSnapshot(30, 1, False, 0.9, 0.9, {"text": mask(0.0, width=1, heads=(0, 0))}),
    )
    make_run("manual", 20, MaskSnapshot(0, 0, False, 0.5, 0.5, {"text": mask(0.0, width=2, heads=(0, 2))}))
    return workbench


def show(workbench, *arguments: str) -> dict:
    result = workbench("runs", "show", "auto", "--architecture", "--json", *arguments)
    assert result.code == 0, result.err
    return json.loads(result.out)["architecture"]


def test_the_newest_masks_are_shown_layer_by_layer(learned) -> None:
    out = learned("runs", "show", "auto", "--architecture").out
    lines = [line.split() for line in out.splitlines()]
    assert ["width", "8", "4", "50%"] in lines
    assert ["heads", "per", "teacher", "layer", "2.0", "1.0", "50%"] in lines
    assert ["attention,", "FFN", str(SHAPE.block_weights), str((4 * 4 * 2 + 2 * 10) * 4), "25%"] in lines
    assert ["1", "0", "of", "2", "0%", "5", "of", "10", "50%"] in lines
    assert "expected sparsity 40.0%, target 50.0%" in out
    assert "image tower" not in out


def test_a_stage_and_the_full_document(learned) -> None:
    newest, first = show(learned), show(learned, "--stage", "1")
    assert (newest["step"], newest["stage"], newest["learning"]) == (20, 2, True)
    assert (first["step"], first["stage"], first["learning"], first["expected_sparsity"]) == (10, 1, False, 0.25)
    assert first["towers"]["text"]["student"]["width"] == 4
    assert newest["towers"]["text"]["student"]["heads"] == [2, 0]
    assert newest["num_unreadable"] == 0
    assert "architecture" not in json.loads(learned("runs", "show", "auto", "--json").out)


def test_masks_over_time(learned) -> None:
    over_time = show(learned, "--over-time")["over_time"]
    assert over_time["steps"] == [0, 10, 20]
    assert over_time["target"] == [0, 0.25, 0.5]
    assert over_time["densities"]["text"]["heads"] == [[1, 1], [1, 1], [1, 0]]
    lines = [line.split() for line in learned("runs", "show", "auto", "--architecture", "--over-time").out.splitlines()]
    assert ["20", "2", "learned", "50.0%", "40.0%"] in lines


def test_another_run_keeps_some_of_it_too(learned) -> None:
    overlaps = show(learned, "--against", "manual")["overlaps"]["text"]
    assert overlaps["embedding"] == {"shared": 0.5, "chance": 0.25}
    assert overlaps["heads"] == {"shared": 0.0, "chance": 0.0}
    assert overlaps["channels"] == {"shared": 1.0, "chance": 0.5}
    assert "manual keeps too" in learned("runs", "show", "auto", "--architecture", "--against", "manual").out


def test_figures_of_the_layers_and_of_the_time(learned) -> None:
    assert "figure: new/a.pdf" in learned("runs", "show", "auto", "--architecture", "--figure", "new/a.pdf").out
    learned("runs", "show", "auto", "--architecture", "--over-time", "--figure", "b.svg", "--json")
    assert Path("new/a.pdf").read_bytes().startswith(b"%PDF")
    assert Path("b.svg").stat().st_size > 10_000


def test_a_fork_starts_with_its_parents_state(learned) -> None:
    began_s = json.loads(Path("runs/auto/events.jsonl").read_text().splitlines()[0])["time_s"]
    forked = Forked(run="fork", step=10, parent="auto", parent_step=10, parent_began_s=began_s)
    make_run("fork", 25, MaskSnapshot(25, 1, True, 0.3, 0.3, {"text": mask(0.5)}), first=forked)
    shown = json.loads(learned("runs", "show", "fork", "--architecture", "--over-time", "--json").out)["architecture"]
    assert shown["over_time"]["steps"] == [0, 10, 25]


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["auto", "--stage", "1"], "--stage needs --architecture"),
        (["auto", "--stage", "0"], "--stage needs --architecture"),
        (["auto", "--architecture", "--stage", "0"], "no stage 0 here"),
        (["auto", "--over-time"], "--over-time needs --architecture"),
        (["auto", "--costs"], "--costs needs --architecture"),
        (["auto", "--figure", "x.png"], "--gradients, --architecture and --detections"),
        (["auto", "--architecture", "--gradients", "--figure", "x.png"], "exactly one of"),
        (["auto", "--architecture", "--stage", "3"], "no stage 3 here; there are masks of: 1, 2"),
        (["auto", "--architecture", "--against", "manul"], "did you mean 'manual'"),
        (["auto", "--architecture", "--against", "plain"], "--against plain: this run's student inherits nothing"),
        (["auto", "--architecture", "--figure", "x.gif"], "unknown figure format"),
        (["manual", "--architecture", "--over-time"], "masks do not change in this run"),
        (["plain", "--architecture"], "--recipe tinyclip-manual"),
    ],
)
def test_what_cannot_be_shown_is_one_line(learned, arguments: list[str], remedy: str) -> None:
    make_run("plain", 3)
    result = learned("runs", "show", *arguments)
    assert result.code == 2
    assert remedy in result.err
    assert result.err.count("\n") == 1


def test_damaged_snapshots_are_reported(learned) -> None:
    for snapshot in Path("runs/auto/snapshots").iterdir():
        snapshot.write_bytes(snapshot.read_bytes()[:50])
    result = learned("runs", "show", "auto", "--architecture")
    assert result.code == 2
    assert "3 snapshots of masks in" in result.err


@pytest.mark.usefixtures("learned")
def test_no_torch_is_loaded() -> None:
    code = (
        "import sys; sys.argv = ['workbench', 'runs', 'show', 'auto', '--architecture', '--against', 'manual'];\n"
        "from workbench.cli.app import main\n"
        "try: main()\n"
        "finally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "text tower" in done.stdout


def test_costs_of_a_run_that_really_inherits(workbench, tiny_recipe: str) -> None:
    plan = ("student.model=inherited", "inheritance.text.channels=0.5", "loss.fd.weight=0")
    settings = [part for setting in plan for part in ("--set", setting)]
    trained = workbench("train", "--recipe", tiny_recipe, "--name", "auto", *settings)
    assert trained.code == 0, trained.err
    costs = show(workbench, "--costs", "--against", "leading")["costs"]
    student, teacher = costs["student"]["text"], costs["teacher"]["text"]
    assert student["shape"]["channels"] == [32]
    assert teacher["block_parameters"] - student["block_parameters"] == 32 * (2 * 16 + 1)
    assert student["multiply_accumulates"] < teacher["multiply_accumulates"]
    assert 0 < student["latency"]["low_ms"] <= student["latency"]["median_ms"] <= student["latency"]["high_ms"]
    assert "middle half" in workbench("runs", "show", "auto", "--architecture", "--costs").out
