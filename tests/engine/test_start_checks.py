import json
from pathlib import Path

import pytest

from workbench.engine import start_checks
from workbench.engine.build import build_cohort
from workbench.engine.launch import create, launch, relaunch
from workbench.engine.start_checks import start_warnings, teacher_level
from workbench.events import RunResumed, Warned


@pytest.fixture(autouse=True)
def _no_levels_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(start_checks, "cache_dir", lambda: tmp_path / "levels")


def warnings_of(config) -> list[str]:
    return list(start_warnings(build_cohort({"run": config})))


def test_a_healthy_run_is_not_warned(healthy) -> None:
    assert warnings_of(healthy) == []


def test_a_teacher_at_chance_is_named_with_its_level_and_the_remedy(tiny) -> None:
    (warning,) = warnings_of(tiny())  # its teacher has random weights
    assert "on 40 validation pairs" in warning
    assert "guessing gives 2.5%" in warning
    assert "--set teacher.model=SPEC" in warning


def test_a_teacher_that_no_loss_needs_is_not_tried(tiny) -> None:
    off = {name: {"weight": 0.0} for name in ("crd", "fd", "icl")}
    assert warnings_of(tiny(loss=off)) == []


def test_words_that_neither_model_knows_are_named(healthy, noise_pairs) -> None:
    spec = noise_pairs([f"xylophone quagmire zeppelin{i}" for i in range(60)])
    data = healthy.data.model_copy(update={"train": spec, "validation": ""})
    found = warnings_of(healthy.model_copy(update={"data": data}))
    assert [warning.partition(":")[0] for warning in found] == ["student's words", "teacher's words"]
    assert "student.tokenizer=bpe" in found[0]


def test_too_few_pairs_are_reported(healthy) -> None:
    data = healthy.data.model_copy(update={"num_validation_pairs": 4})
    (warning,) = warnings_of(healthy.model_copy(update={"data": data}))
    assert "too few pairs" in warning
    assert "data.validation" in warning


def test_of_many_pairs_a_few_are_embedded_and_a_slow_teacher_sees_fewer(
    healthy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start_checks, "NUM_PAIRS", 20)
    monkeypatch.setattr(start_checks, "CHUNK", 10)
    cohort = build_cohort({"run": healthy})
    evaluator = cohort.evaluators["validation"]
    few = teacher_level(evaluator, cohort.teacher)
    assert few.num_pairs == 20
    assert not evaluator.knows_teacher
    monkeypatch.setattr(start_checks, "ENOUGH_S", 0.0)
    assert teacher_level(evaluator, cohort.teacher).num_pairs == 10
    evaluator.teacher_pairs()
    assert teacher_level(evaluator, cohort.teacher) == few  # to the same pairs, whatever the size of a forward


def test_what_took_long_is_kept_for_the_next_run(healthy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = build_cohort({"run": healthy})
    evaluator = cohort.evaluators["validation"]
    teacher_level(evaluator, cohort.teacher)
    assert not (tmp_path / "levels").exists()
    monkeypatch.setattr(start_checks, "WORTH_KEEPING_S", 0.0)
    level = teacher_level(evaluator, cohort.teacher)
    (kept,) = (tmp_path / "levels" / "teacher-levels").iterdir()
    assert json.loads(kept.read_text()) == level.model_dump()
    monkeypatch.setattr(start_checks, "_measure", lambda *_: 1 / 0)
    assert teacher_level(evaluator, cohort.teacher) == level


def test_a_run_warns_once_at_its_start_also_one_that_was_only_created(tiny, tmp_path: Path) -> None:
    def warned(started) -> list[Warned]:
        stop = iter([False] * 4 + [True] * 20)
        events = list(started.events(lambda: next(stop)))
        return [event for event in events if isinstance(event, Warned) and "guessing" in event.message]

    assert [event.step for event in warned(launch({"one": tiny()}, tmp_path))] == [0]
    detached = create("two", tiny(), tmp_path)
    assert [event.step for event in warned(relaunch(detached))] == [0]
    resumed = list(relaunch(detached).events())
    assert isinstance(resumed[0], RunResumed)
    assert not any(isinstance(event, Warned) and "guessing" in event.message for event in resumed)
