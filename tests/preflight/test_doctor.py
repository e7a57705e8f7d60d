from pathlib import Path

import pytest

from workbench.engine.member import Member
from workbench.preflight import cost, doctor
from workbench.preflight.doctor import examine_machine, examine_run
from workbench.preflight.timing import PairCost

OF_THE_MACHINE = {"device", "RAM", "threads", "load", "runs folder", "cache folder"}


def of_the_run(diagnosis):
    return [finding for finding in diagnosis.findings if finding.check not in OF_THE_MACHINE]


def test_the_machine_alone() -> None:
    diagnosis = examine_machine()
    assert {finding.check for finding in diagnosis.findings} == OF_THE_MACHINE
    assert diagnosis.forecast is None
    assert diagnosis.to_json()["forecast"] is None


def test_a_healthy_run_is_found_healthy_and_leaves_nothing(healthy, tmp_path: Path) -> None:
    lines: list[str] = []
    diagnosis = examine_run(healthy, tmp_path / "runs", lines.append)
    assert [finding for finding in of_the_run(diagnosis) if finding.level != "ok"] == []
    assert not diagnosis.has_problem or OF_THE_MACHINE & {f.check for f in diagnosis.findings if f.level == "problem"}
    assert {finding.check for finding in of_the_run(diagnosis)} == {
        *("length", "warm-up", "precision", "weights"),
        *("captions", "caption length", "student's words", "teacher's words", "model inputs", "affinities crd"),
        *("memory", "disk", "time", "images", "gradient", "teacher"),
    }
    assert diagnosis.forecast.num_steps == 12
    assert 0 < diagnosis.forecast.peak_mb < diagnosis.forecast.room_mb
    assert lines[0] == "building the run"
    assert not list(tmp_path.iterdir())


def test_a_run_of_pairs_alone_is_not_asked_about_a_teacher(tiny) -> None:
    off = {name: {"weight": 0.0} for name in ("crd", "fd", "icl")}
    checks = {finding.check for finding in examine_run(tiny(teacher={"model": ""}, loss=off)).findings}
    assert not checks & {"teacher", "teacher's words", "model inputs", "gradient"}


def test_a_run_without_held_out_pairs_is_warned_of(tiny, one) -> None:
    diagnosis = examine_run(tiny(data={"validation": ""}))
    assert one(diagnosis.findings, "evaluation").remedy == "name held-out pairs with --set data.validation=SPEC"
    assert diagnosis.forecast.num_evaluations == 0


def test_a_run_that_only_tests_is_timed_too(tiny) -> None:
    forecast = examine_run(tiny(data={"validation": "", "test": "auto", "num_test_pairs": 40})).forecast
    assert forecast.num_evaluations == 0
    assert forecast.evaluation_s > 0


def test_of_many_held_out_pairs_some_are_measured(tiny, one, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MOST_MEASURED", 30)
    monkeypatch.setattr(doctor, "SOME_MEASURED", 20)
    assert "on 20 validation pairs" in one(examine_run(tiny()).findings, "teacher").message


def test_a_step_that_is_not_finite_is_a_problem(tiny, one) -> None:
    diagnosis = examine_run(tiny(optimizer={"learning_rate": 1e30}))
    assert one(diagnosis.findings, "loss").level == "problem"
    assert diagnosis.has_problem


def test_a_run_that_does_not_fit_has_no_forecast(tiny, one, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Member, "train_step", fail)
    diagnosis = examine_run(tiny())
    assert one(diagnosis.findings, "memory").level == "problem"
    assert diagnosis.forecast is None


def test_what_training_refuses_is_refused(tiny) -> None:
    with pytest.raises(ValueError, match="a batch of 500"):
        examine_run(tiny(train={"batch_size": 500}))


def test_a_run_that_this_machine_cannot_do_is_estimated_and_not_tried(
    healthy, one, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = PairCost(teacher_forward_s=1.0, learn_s={"doctor": 10.0}, grown_mb=0.0, chunk_size=20)
    monkeypatch.setattr(cost, "time_pairs", lambda _: slow)
    monkeypatch.setattr(doctor, "try_steps", lambda _: 1 / 0)
    monkeypatch.setattr(doctor, "measure_affinities", lambda _: 1 / 0)
    train = healthy.train.model_copy(update={"num_steps": 10**5})
    diagnosis = examine_run(healthy.model_copy(update={"train": train}))
    found = one(diagnosis.findings, "time")
    assert found.level == "problem"
    assert "254.6 days for 100,000 steps of 20 pairs" in found.message  # of 20 x (10 + 1) s
    assert "train.num_steps" in found.remedy
    assert "GPU" in found.remedy
    assert diagnosis.has_problem
    assert diagnosis.forecast is None
    document = diagnosis.to_json()["estimate"]
    assert document["step_s"] == 220
    assert document["trial_s"] > 3 * 220
    short = one(examine_run(healthy).findings, "time")  # 12 steps, which trying takes as long as
    assert short.level == "warning"
    assert "--max-time 0" in short.remedy


def test_a_bound_of_zero_tries_it_all_the_same(healthy, one, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = PairCost(teacher_forward_s=1.0, learn_s={"doctor": 10.0}, grown_mb=0.0, chunk_size=20)
    monkeypatch.setattr(cost, "time_pairs", lambda _: slow)
    lines: list[str] = []
    diagnosis = examine_run(healthy, report=lines.append, max_time_s=0)
    assert diagnosis.forecast is not None
    assert diagnosis.estimate is None
    assert one(diagnosis.findings, "memory").level == "ok"
    assert any("min" in line for line in lines)  # what it was expected to take
