import math

import pytest
import torch

from workbench.data.spec import open_dataset
from workbench.embeddings import Embeddings
from workbench.engine.build import build_cohort
from workbench.engine.start_checks import share_unknown, teacher_finding
from workbench.evaluation.agreement import affinity_entropy
from workbench.evaluation.chance import mean_recall
from workbench.models.spec import load_model
from workbench.models.teacher import Teacher
from workbench.models.tokenizers import BytePairTokenizer, WordTokenizer
from workbench.preflight import data_checks
from workbench.preflight.data_checks import (
    Affinities,
    affinity_finding,
    image_finding,
    input_findings,
    measure_affinities,
)
from workbench.preflight.timing import StepTiming
from workbench.preflight.trial import StepTrial


@pytest.fixture
def look(tiny_models):
    """``look(data, tokenizer)``: the findings on a data SPEC, for the tiny student."""

    def findings(spec: str, *, tokenizer: str = "", batch_size: int = 20, student: str = ""):
        spec_of_student = student or tiny_models["student"]
        student_model = load_model(spec_of_student, seed=0, tokenizer=tokenizer)
        teacher = Teacher(load_model("sample:scenes"), 20)
        dataset = open_dataset(spec, "train", 60 if spec.startswith("samples:") else 0)
        return list(input_findings(dataset, student_model, teacher, batch_size, spec_of_student))

    return findings


def test_the_samples_suit_the_tiny_student(look, one) -> None:
    found = look("samples:scenes")
    assert {finding.level for finding in found} == {"ok"}
    assert [finding.check for finding in found] == [
        "captions",
        "caption length",
        "student's words",
        "teacher's words",
        "model inputs",
    ]
    assert "images of 16 and 48 pixels" in one(found, "model inputs").message


def test_shared_captions_are_warned_of(look, noise_pairs, one) -> None:
    found = one(look(noise_pairs([f"a red circle {'left' if i % 2 else 'right'}" for i in range(40)])), "captions")
    assert found.level == "warning"
    assert "40, 2 of them different: 9.3 of a pair's 19" in found.message


def test_cut_captions_are_warned_of(look, noise_pairs, one) -> None:
    found = one(look(noise_pairs([f"{'a red circle ' * 10}{i}" for i in range(40)])), "caption length")
    assert found.level == "warning"
    assert "100% fill the 20 tokens" in found.message


def test_unknown_words_are_a_problem_of_the_model_that_does_not_know_them(look, noise_pairs, one, tiny_models) -> None:
    spec = noise_pairs([f"xylophone quagmire zeppelin{i}" for i in range(40)])
    found = look(spec)
    assert one(found, "student's words").level == one(found, "teacher's words").level == "problem"
    assert one(found, "student's words").remedy == "--set student.tokenizer=bpe"
    assert "teacher.model" in one(found, "teacher's words").remedy
    found = look(spec, student=tiny_models["teacher"])  # a folder with weights, whose tokenizer stays
    assert one(found, "student's words").remedy.startswith("start from a student")


def test_byte_pairs_know_all_words(look, noise_pairs, one) -> None:
    found = look(noise_pairs([f"xylophone quagmire {i}" for i in range(40)]), tokenizer="bpe")
    assert "student's words" not in {finding.check for finding in found}
    assert "tokenizers (49,408 byte pairs in 20 tokens and " in one(found, "model inputs").message


def test_the_share_of_unknown_words_is_counted_by_word() -> None:
    tokenize = WordTokenizer(("a", "red", "bus"), context_length=6)
    assert share_unknown(tokenize, ["a red bus", "a BLUE bus"]) == pytest.approx(1 / 6)
    assert share_unknown(tokenize, ["..."]) == 0
    assert share_unknown(BytePairTokenizer(8), ["a red bus"]) is None


@pytest.mark.parametrize(
    ("num_replaced", "level"), [(0, "ok"), (1, "ok"), (2, "warning"), (7, "warning"), (8, "problem")]
)
def test_broken_images_are_counted(num_replaced: int, level: str) -> None:
    trial = StepTrial(3, StepTiming(0, 0, {"run": 1}), 0, 100, None, num_pairs=150, num_replaced=num_replaced)
    assert image_finding(trial).level == level


@pytest.mark.filterwarnings("ignore:left out", "ignore:.*have a number or an id")
def test_what_was_left_out_is_a_warning(look, noise_pairs, one, tmp_path) -> None:
    found = one(look(noise_pairs([*(f"a red circle {i}" for i in range(39)), ""])), "training data")
    assert found.level == "warning"
    assert "1 of 40 (1 blank" in found.message
    for name in ("0", "1"):
        (tmp_path / "digits" / name).mkdir(parents=True)
        (tmp_path / f"{name}.png").rename(tmp_path / "digits" / name / "a.png")
    assert "classes.json" in one(look(f"folder:{tmp_path / 'digits'}"), "training data").message


def recall(config):
    evaluator = build_cohort({"run": config}).evaluators["validation"]
    measured = evaluator.measure_teacher()
    return teacher_finding(
        mean_recall(measured.metrics), mean_recall(measured.chance), measured.num_pairs, "validation"
    )


def test_a_teacher_that_knows_the_data_beats_chance(healthy) -> None:
    assert recall(healthy).level == "ok"


def test_a_teacher_with_random_weights_is_a_problem(tiny) -> None:
    found = recall(tiny())
    assert found.level == "problem"
    assert "no better than guessing" in found.message
    assert "teacher.model" in found.remedy


def test_entropies_are_those_of_the_teachers_own_embeddings(healthy) -> None:
    cohort = build_cohort({"run": healthy})
    (found,) = measure_affinities(cohort)
    assert (found.losses, found.num_pairs) == (("crd",), 40)
    assert found.scale == pytest.approx(float(cohort.teacher.scale))
    batches = [cohort.stream.batch(step) for step in (0, 1)]
    parts = [cohort.teacher.embed(*batch.teachers[0]) for batch in batches]
    image_ND, text_ND = (torch.cat([getattr(e, name) for e in parts]) for name in ("image_BD", "text_BD"))
    assert found.training == pytest.approx(
        affinity_entropy(Embeddings(image_ND, text_ND, cohort.teacher.scale)), rel=1e-4
    )
    assert 0 < found.held_out < found.uniform == pytest.approx(math.log(40))


def test_every_scale_at_which_affinities_are_a_target_is_looked_at(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_checks, "NUM_PAIRS", 25)  # no multiple of the batch
    config = tiny(
        loss={"affinity": {"teacher_scale": 50}, "cross_modal": {"teacher_scale": 50}}, data={"validation": ""}
    )
    crd, both = measure_affinities(build_cohort({"run": config}))
    assert crd.losses == ("crd",)
    assert (both.losses, both.scale, both.num_pairs, both.held_out) == (("affinity", "cross_modal"), 50, 25, None)
    (alone,) = measure_affinities(build_cohort({"run": tiny(loss={"crd": {"weight": 0}})}))
    assert alone.losses == ()


def test_affinities_that_are_nearly_one_hot_are_warned_of_where_a_loss_uses_them() -> None:
    sharp = Affinities(("crd", "affinity"), 100.0, 500, training=0.05, held_out=1.2)
    found = affinity_finding(sharp)
    assert (found.check, found.level) == ("affinities crd affinity", "warning")
    assert "0.05 nats on training pairs, 1.20 on held-out ones; uniform over 500 is 6.21" in found.message
    assert "loss.crd.teacher_scale" in found.remedy
    assert affinity_finding(Affinities((), 100.0, 500, 0.05, None)).level == "ok"
    assert affinity_finding(Affinities(("crd",), 28.0, 500, 1.5, 0.7)).level == "ok"


def test_a_sharp_scale_makes_them_one_hot(healthy, tiny) -> None:
    crd = {"teacher_scale": 5000}
    config = tiny(teacher=healthy.teacher.model_dump(), loss={"crd": crd})
    (found,) = measure_affinities(build_cohort({"run": config}))
    assert affinity_finding(found).level == "warning"
