import math

import pytest
import torch

from workbench.embeddings import Embeddings
from workbench.engine.build import build_cohort
from workbench.engine.doctor import teaching
from workbench.engine.doctor.teaching import (
    Affinities,
    affinity_finding,
    chance_recall,
    look_at_affinities,
    recall_finding,
)
from workbench.evaluation.agreement import affinity_entropy


def recall(config):
    evaluator = build_cohort({"run": config}).evaluators["validation"]
    return recall_finding(evaluator.measure_teacher(), chance_recall(evaluator.pairs, 1000), "validation")


def test_a_teacher_that_knows_the_data_beats_chance(healthy) -> None:
    assert recall(healthy).level == "ok"


def test_a_teacher_with_random_weights_is_a_problem(tiny) -> None:
    found = recall(tiny())
    assert found.level == "problem"
    assert "no better than guessing" in found.message
    assert "teacher.model" in found.remedy


class _Pairs:
    def __init__(self, groups: list[str]) -> None:
        self.image_group_N, self.num_images = groups, len(groups)


def test_chance_is_one_in_a_block_and_more_where_groups_are_shared() -> None:
    assert chance_recall(_Pairs([str(i) for i in range(40)]), 1000) == pytest.approx(1 / 40)
    assert chance_recall(_Pairs([str(i) for i in range(40)]), 10) == pytest.approx(1 / 10)
    assert chance_recall(_Pairs(["cat"] * 20 + ["dog"] * 20), 1000) == pytest.approx(1 / 2)
    assert chance_recall(_Pairs(["cat"] * 7), 1000) == pytest.approx(1)
    assert chance_recall(_Pairs(["cat"]), 1000) == 1


def test_entropies_are_those_of_the_teachers_own_embeddings(healthy) -> None:
    cohort = build_cohort({"run": healthy})
    (found,) = look_at_affinities(cohort)
    assert (found.losses, found.num_pairs) == (("crd",), 40)
    assert found.scale == pytest.approx(float(cohort.teacher.scale))
    batches = [cohort.stream.batch(step) for step in (0, 1)]
    lessons = [cohort.teacher.embed(batch.teacher_image_BCHW, batch.teacher_text_BL) for batch in batches]
    image_ND, text_ND = (torch.cat([getattr(e, name) for e in lessons]) for name in ("image_BD", "text_BD"))
    assert found.training == pytest.approx(
        affinity_entropy(Embeddings(image_ND, text_ND, cohort.teacher.scale)), rel=1e-4
    )
    assert 0 < found.held_out < found.uniform == pytest.approx(math.log(40))


def test_every_scale_at_which_affinities_are_a_target_is_looked_at(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teaching, "NUM_PAIRS", 25)  # no multiple of the batch
    config = tiny(
        loss={"affinity": {"teacher_scale": 50}, "cross_modal": {"teacher_scale": 50}}, data={"validation": ""}
    )
    crd, both = look_at_affinities(build_cohort({"run": config}))
    assert crd.losses == ("crd",)
    assert (both.losses, both.scale, both.num_pairs, both.held_out) == (("affinity", "cross_modal"), 50, 25, None)
    (alone,) = look_at_affinities(build_cohort({"run": tiny(loss={"crd": {"weight": 0}})}))
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
    (found,) = look_at_affinities(build_cohort({"run": config}))
    assert affinity_finding(found).level == "warning"
