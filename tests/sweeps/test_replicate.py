"""What a study makes of runs that end otherwise than by training."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from workbench.config.cells import Cell
from workbench.events import Event, StepDone
from workbench.sweeps.replicate import Job, ReplicateTrainer


@pytest.mark.parametrize("names", [["one"], ["one", "two"]])
def test_a_cell_whose_folder_is_deleted_has_failed_and_the_others_have_not(
    tiny, tmp_path: Path, names: list[str]
) -> None:
    def watch(events: Iterator[Event], _: int) -> Iterator[Event]:
        for event in events:
            if isinstance(event, StepDone) and (event.run, event.step) == ("study-one-s0", 6):
                shutil.rmtree(tmp_path / event.run)
            yield event

    jobs = [Job(Cell(name, {}, tiny()), 0, number) for number, name in enumerate(names)]
    outcomes = ReplicateTrainer("study", tmp_path, watch).train(jobs, lambda: False)
    assert {name: outcome.state for name, outcome in outcomes.items()} == {
        name: "failed" if name == "one" else "finished" for name in names
    }
    assert f"{tmp_path / 'study-one-s0'} was deleted" in outcomes["one"].reason
