import pytest

from workbench.config.cells import Cell
from workbench.engine.doctor.forecast import num_validations
from workbench.engine.estimate import Estimate
from workbench.sweeps import rehearsal
from workbench.sweeps.plan import Group
from workbench.sweeps.rehearsal import rehearse


@pytest.fixture
def group(tiny) -> Group:
    return Group(0, (Cell("one", {}, tiny()),))


def test_a_step_that_takes_long_is_estimated_and_not_taken(group, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Estimate(teach_s=1.0, learn_s={"one": 10.0}, grown_mb=100.0, chunk_size=16)
    monkeypatch.setattr(rehearsal, "estimate_step", lambda _: slow)
    monkeypatch.setattr(rehearsal, "laps", lambda _: 1 / 0)
    said: list[str] = []
    cost = rehearse([group], tmp_path, said.append)["one"]
    assert "a step takes about 3.9 min" in said[-1]  # 32 s of the teacher and 20 x 10 s
    assert cost.shared_s >= 12 * 32
    assert cost.own_s >= 12 * 200
    assert cost.peak_mb > 20 * 100
    assert "image_to_text_r1" in cost.metrics
    assert num_validations(group.cells[0].at(0)) == 1


def test_a_quick_step_is_measured(group, tmp_path) -> None:
    said: list[str] = []
    cost = rehearse([group], tmp_path, said.append)["one"]
    assert len(said) == 1
    assert 0 < cost.own_s < 60
