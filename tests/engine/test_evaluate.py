from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from workbench.embeddings import Embeddings
from workbench.engine import linear_probe
from workbench.engine.build import build_cohort
from workbench.engine.evaluate import Evaluator
from workbench.engine.launch import launch
from workbench.engine.loop import train
from workbench.engine.remeasure import open_source
from workbench.events import EvalDone, EvalStarted
from workbench.models.spec import load_student
from workbench.runs.directory import create_run
from workbench.runs.snapshots import MOST_PAIRS, Probe, read_snapshot_history


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
    assert "similarity_single" in evaluator.measure(state.student, state.learned).metrics
    without = evaluator.measure(state.student).metrics
    assert "similarity_single" not in without
    assert {"cka", "affinity_kl"} <= without.keys()


def test_a_teacher_agrees_with_itself(tiny, tiny_models) -> None:
    cohort = build_cohort({"run": tiny(student={"model": tiny_models["teacher"]})})
    evaluator, student = cohort.evaluators["validation"], cohort.members[0].state.student
    measured = evaluator.measure(student, cohort.members[0].state.learned)
    assert measured.metrics["similarity_single"] == pytest.approx(1, abs=1e-5)
    assert measured.metrics["cka"] == pytest.approx(1, abs=1e-5)
    assert measured.metrics["affinity_kl"] == pytest.approx(0, abs=1e-6)
    own = evaluator.measure_teacher().metrics
    assert own["image_to_text_r1"] == measured.metrics["image_to_text_r1"]


def test_zero_shot_has_chance_level_for_a_random_student(cohort) -> None:
    measured = cohort.evaluators["validation"].measure(cohort.members[0].state.student)
    assert 0 <= measured.metrics["zero_shot_top1"] <= 0.3
    assert measured.hits["zero_shot_top1"].float().mean().item() == pytest.approx(measured.metrics["zero_shot_top1"])


def test_the_scenes_teacher_names_objects_and_probes_learn_shapes(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {"train": "samples:scenes", "num_pairs": 100, "num_validation_pairs": 300}
    evaluator = build_cohort({"run": tiny(data=data, teacher={"model": "sample:scenes"})}).evaluators["validation"]
    measured = evaluator.measure_teacher()
    assert measured.metrics["image_to_text_r1"] > 0.9
    assert measured.metrics["zero_shot_top1"] > 0.58
    # Of 48 classes two are correct, or one where both objects are equal in color and shape.
    assert 1 / 48 < measured.chance["zero_shot_top1"] < 2 / 48
    assert len(set(evaluator.pairs.classes_N)) <= 21
    student = load_student("sample:scenes")
    scored = evaluator.zero_shot(student, evaluator.image_features(student))
    assert scored.metrics["zero_shot_top1"] == pytest.approx(measured.metrics["zero_shot_top1"], abs=0.01)
    fitted = linear_probe.Probe(1, 0, 1.0, torch.tensor([True, False]))
    monkeypatch.setattr(linear_probe, "probes", lambda *_: [fitted])  # fitting takes a minute
    source = open_source("sample:scenes", Path("runs"))
    # The probes' classes are the labels, pairs of shapes, so that zero-shot would be no comparison.
    probed = linear_probe.probe_evaluators(source, evaluator, evaluator, ("", ""), shots=(1,), num_seeds=1)
    assert (probed.num_classes, probed.zero_shot) == (len(set(evaluator.pairs.classes_N)), None)


def test_the_emoji_teacher_tells_kinds_better_than_a_constant(tiny) -> None:
    emoji = {"train": "samples:emoji", "num_pairs": 100, "num_validation_pairs": 0}
    student = {"model": "mini-w64", "tokenizer": "words:emoji"}
    config = tiny(data=emoji, student=student, teacher={"model": "sample:emoji"})
    evaluator = build_cohort({"run": config}).evaluators["validation"]
    measured, constant = evaluator.measure_teacher(), evaluator.constant_baseline()
    assert measured.chance["zero_shot_top1"] == pytest.approx(1 / 12)
    assert constant["zero_shot_top1"] == pytest.approx(29 / 135)
    assert measured.metrics["zero_shot_top1"] > constant["zero_shot_top1"] + 0.1


def test_the_teacher_is_encoded_once(cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator: Evaluator = cohort.evaluators["validation"]
    student = cohort.members[0].state.student
    before = evaluator.measure(student).metrics
    monkeypatch.setattr(cohort.teacher, "embed_image", lambda _: 1 / 0)
    assert evaluator.measure(student).metrics == before


def test_a_student_is_evaluated_in_the_precision_it_trains_in(tiny) -> None:
    def probe(precision: str) -> Probe:
        cohort = build_cohort({"run": tiny(train={"precision": precision})})
        return cohort.evaluators["validation"].measure(cohort.members[0].state.student).probe

    cohort = build_cohort({"run": tiny(train={"precision": "bf16"})})
    student, pairs = cohort.members[0].state.student.eval(), cohort.evaluators["validation"].pairs
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        raw = torch.cat([student.encode_image(chunk) for chunk in pairs.image_chunks(16)])[:MOST_PAIRS]
    assert (probe("bf16").student.image_PD == F.normalize(raw, dim=1).half().numpy()).all()
    assert (probe("bf16").student.image_PD != probe("fp32").student.image_PD).any()
    assert raw.dtype == torch.float32


def test_members_evaluated_at_one_step_share_the_decoded_images(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = build_cohort({str(seed): tiny(seed=seed, evaluate={"every_steps": 6}) for seed in range(3)})
    evaluator, decoded = cohort.evaluators["validation"], []
    evaluator.teacher_pairs()  # the teacher decodes them once more
    honest = evaluator.pairs.image_chunks
    monkeypatch.setattr(evaluator.pairs, "image_chunks", lambda *size: decoded.append(size) or honest(*size))
    events = list(train(cohort))
    assert [(event.run, event.step) for event in events if isinstance(event, EvalDone)] == [
        (run, step) for step in (6, 12) for run in "012"
    ]
    assert len(decoded) == 2
    for member in cohort.members:
        alone = evaluator.measure(member.state.student, member.state.learned, member.objective.losses)
        assert alone.metrics == cohort.measured[member.run, "validation"].metrics


def test_chance_and_the_teachers_recall_are_those_of_the_same_pairs(cohort) -> None:
    evaluator = cohort.evaluators["validation"]
    measured = evaluator.measure(cohort.members[0].state.student)
    own = evaluator.measure_teacher().metrics
    assert measured.teacher == {name: value for name, value in own.items() if "_r" in name}
    assert measured.chance.keys() == {*measured.teacher, "zero_shot_top1", "zero_shot_top5"}
    assert measured.chance["image_to_text_r1"] == pytest.approx(1 / 40, abs=0.005)
    num_correct = sum(len(names) for names in evaluator.pairs.answers_N)
    num_guesses = len(evaluator.pairs.answers_N) * len(evaluator.pairs.task.classes)
    assert measured.chance["zero_shot_top1"] == pytest.approx(num_correct / num_guesses)
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


def test_the_probe_is_what_was_evaluated(cohort) -> None:
    evaluator, member = cohort.evaluators["validation"], cohort.members[0]
    probe = evaluator.measure(member.state.student, member.state.learned).probe
    pairs, student = evaluator.pairs, member.state.student.eval()
    assert len(probe.captions) == MOST_PAIRS
    assert probe.captions[3] == pairs.captions[pairs.caption_image_index_M.tolist().index(3)]
    with torch.no_grad():
        images = torch.cat([student.encode_image(chunk) for chunk in pairs.image_chunks(16)])[:MOST_PAIRS]
        texts = student.encode_text(student.tokenizer(probe.captions))
    own = Embeddings.from_raw(images, texts, student.scale)
    np.testing.assert_allclose(probe.student.image_PD, own.image_BD.numpy(), atol=1e-3)
    np.testing.assert_allclose(probe.student.text_PD, own.text_BD.numpy(), atol=1e-3)
    np.testing.assert_allclose(
        probe.teacher.image_PD, evaluator.teacher_pairs().image_BD[:MOST_PAIRS].numpy(), atol=1e-3
    )
    assert probe.student.scale == student.scale.item()


def test_a_probe_that_cannot_be_kept_is_a_warning(cohort, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    member = cohort.members[0]
    probe = cohort.evaluators["validation"].measure(member.state.student).probe
    assert list(member.save_snapshot(0, "probe pairs", lambda: probe)) == []  # it keeps nothing
    member.directory = create_run(tmp_path, "run", 'recipe = "x"\n')

    def refuse(*_):
        raise OSError(28, "no space left on device")

    monkeypatch.setattr("workbench.engine.member.write_snapshot", refuse)
    (warning,) = member.save_snapshot(0, "probe pairs", lambda: probe)
    assert "no space left" in warning.message


def test_every_evaluation_on_the_way_leaves_one(tiny, tmp_path) -> None:
    started = launch({"run": tiny(evaluate={"every_steps": 2})}, tmp_path)
    directory = started.directories["run"]
    events = list(started.events())
    steps = [event.step for event in events if isinstance(event, EvalDone) and event.split == "validation"]
    kept = sorted(int(path.stem.partition("-")[2]) for path in directory.snapshots.glob("probe-*"))
    assert kept == steps != []
    assert read_snapshot_history(directory, Probe).num_skipped == 0
