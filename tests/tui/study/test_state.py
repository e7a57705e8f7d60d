import json
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.tui.study.state import covered, ended_trials, read_study

CELLS = {f"{weight}": {"loss.fd.weight": weight} for weight in (0, 10)}
WHOLE = st.integers(-50, 50)


@given(st.lists(st.tuples(WHOLE, st.integers(0, 20)), max_size=8))
def test_covered_is_the_length_of_the_union(found) -> None:
    spans = [(float(low), float(low + length)) for low, length in found]
    units = {unit for low, length in found for unit in range(low, low + length)}
    assert covered(spans) == len(units)


def test_the_time_left_follows_from_the_pace_so_far(record) -> None:
    """Four runs of 100 steps, two at a time: 20 s of training for 400 of the 1,800 steps of fd_weight's 18 runs."""
    record.study("fd_weight", CELLS)
    for cell in CELLS:
        for seed in range(2):
            log = record.folder / f"fd_weight-{cell}-s{seed}/events.jsonl"
            lines = log.read_text().splitlines()
            end = 1_000_000.0 + 1000 * seed
            timed = [json.dumps(json.loads(line) | {"time_s": end}) for line in lines]
            log.write_text("\n".join(timed) + "\n")
    found = read_study("fd_weight", record.folder)
    assert found.left_s == pytest.approx((1800 - 400) * 20 / 400)
    assert found.left_text == "about 1.2 min left, but no run is training"


def test_trials_without_a_result_are_read_from_optunas_storage(tmp_path) -> None:
    import optuna

    file = tmp_path / "one two.db"
    study = optuna.create_study(study_name="s", storage=f"sqlite:///{file}")
    for state, word, reason in (
        ("PRUNED", "dropped", ""),
        ("COMPLETE", "finished", ""),
        ("FAIL", "failed", "out of memory"),
        ("PRUNED", "diverged", ""),
    ):
        trial = study.ask()
        trial.set_user_attr("outcome", word)
        trial.set_user_attr("name", f"t{trial.number:04d}")
        if reason:
            trial.set_user_attr("reason", reason)
        study.tell(trial, 1.0 if state == "COMPLETE" else None, optuna.trial.TrialState[state])
    found = ended_trials(file, "s")
    assert found["t0000"].startswith("dropped by racing")
    assert found["t0002"] == "failed: out of memory"
    assert found["t0003"] == "pruned: it diverged"
    assert "t0001" not in found
    assert ended_trials(file, "another") == {}


def test_an_unreadable_storage_has_no_ended_trials(tmp_path) -> None:
    file = tmp_path / "s.db"
    assert ended_trials(file, "s") == {}
    file.write_bytes(b"not a database")
    assert ended_trials(file, "s") == {}
    file.unlink()
    sqlite3.connect(file).close()
    assert ended_trials(file, "s") == {}


def test_a_retried_cell_has_not_ended(tmp_path) -> None:
    import optuna

    file = tmp_path / "s.db"
    study = optuna.create_study(study_name="s", storage=f"sqlite:///{file}")
    for name in ("0", "10"):
        trial = study.ask()
        trial.set_user_attr("name", name)
        trial.set_user_attr("outcome", "stopped")
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    assert list(ended_trials(file, "s")) == ["0", "10"]
    study.ask().set_user_attr("name", "10")
    assert list(ended_trials(file, "s")) == ["0"]
