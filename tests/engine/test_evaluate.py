import pytest
import torch
import torch.nn.functional as F

from workbench.engine.build import build_cohort
from workbench.engine.evaluate import Evaluator
from workbench.engine.loop import train
from workbench.events import EvalDone, EvalStarted


@pytest.fixture
def cohort(tiny):
    return build_cohort({"run": tiny()})


def test_recall_agrees_with_a_loop_over_pairs(cohort) -> None:
    evaluator, student = cohort.evaluators["validation"], cohort.members[0].state.student
    pairs = evaluator.pairs
    with torch.no_grad():
        images = torch.cat([student.encode_image(chunk) for chunk in pairs.image_chunks(16)])
        texts = student.encode_text(student.tokenizer(pairs.captions))
    cosines = F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T
    groups = pairs.image_group_N
    hits = [groups[row.argmax()] == groups[index] for index, row in enumerate(cosines)]
    measured = evaluator.measure(student)
    assert measured.num_pairs == 40
    assert measured.metrics["image_to_text_r1"] == pytest.approx(sum(hits) / 40)


def test_the_student_is_in_train_mode_after_an_evaluation(cohort) -> None:
    student = cohort.members[0].state.student.train()
    cohort.evaluators["validation"].measure(student)
    assert student.training
    assert all(parameter.grad is None for parameter in student.parameters())


def test_agreement_needs_a_projection_where_widths_differ(cohort) -> None:
    evaluator, state = cohort.evaluators["validation"], cohort.members[0].state
    assert "similarity_single" in evaluator.measure(state.student, state.learnt).metrics
    without = evaluator.measure(state.student).metrics
    assert "similarity_single" not in without
    assert {"cka", "affinity_kl"} <= without.keys()


def test_a_teacher_agrees_with_itself(tiny, tiny_models) -> None:
    cohort = build_cohort({"run": tiny(student={"model": tiny_models["teacher"]})})
    evaluator, student = cohort.evaluators["validation"], cohort.members[0].state.student
    measured = evaluator.measure(student, cohort.members[0].state.learnt)
    assert measured.metrics["similarity_single"] == pytest.approx(1, abs=1e-5)
    assert measured.metrics["cka"] == pytest.approx(1, abs=1e-5)
    assert measured.metrics["affinity_kl"] == pytest.approx(0, abs=1e-6)
    own = evaluator.measure_teacher().metrics
    assert own["image_to_text_r1"] == measured.metrics["image_to_text_r1"]


def test_zero_shot_has_chance_level_for_a_random_student(cohort) -> None:
    measured = cohort.evaluators["validation"].measure(cohort.members[0].state.student)
    assert 0 <= measured.metrics["zero_shot_top1"] <= 0.3
    assert measured.hits["zero_shot_top1"].float().mean().item() == pytest.approx(measured.metrics["zero_shot_top1"])


def test_the_teacher_is_encoded_once(cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator: Evaluator = cohort.evaluators["validation"]
    student = cohort.members[0].state.student
    before = evaluator.measure(student).metrics
    monkeypatch.setattr(cohort.teacher, "embed_image", lambda _: 1 / 0)
    assert evaluator.measure(student).metrics == before


def test_chance_and_the_teachers_recall_are_those_of_the_same_pairs(cohort) -> None:
    evaluator = cohort.evaluators["validation"]
    measured = evaluator.measure(cohort.members[0].state.student)
    own = evaluator.measure_teacher().metrics
    assert measured.teacher == {name: value for name, value in own.items() if "_r" in name}
    assert measured.chance.keys() == {*measured.teacher, "zero_shot_top1", "zero_shot_top5"}
    assert measured.chance["image_to_text_r1"] == pytest.approx(1 / 40, abs=0.005)
    assert measured.chance["zero_shot_top1"] == pytest.approx(1 / len(evaluator.pairs.task.classes))
    event = measured.event("run", 3, "validation")
    assert (event.chance, event.teacher) == (measured.chance, measured.teacher)


def test_an_evaluation_is_announced_before_it_starts(tiny) -> None:
    events = list(train(build_cohort({"run": tiny(evaluate={"every_steps": 6})})))
    measured = [event for event in events if isinstance(event, EvalStarted | EvalDone)]
    assert [(type(event), event.step, event.num_pairs) for event in measured] == [
        (EvalStarted, 6, 40),
        (EvalDone, 6, 40),
        (EvalStarted, 12, 40),
        (EvalDone, 12, 40),
    ]
