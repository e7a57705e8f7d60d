import re

import pytest
import torch

from workbench.config.run import LossConfig
from workbench.losses import LOSSES, build_loss
from workbench.losses.comparison import Comparison
from workbench.losses.objective import Objective

RELEASED = {"convention": "released"}
SHARES = {"fd": (2000, 15.6), "mfd": (2000, 15.6), "gd": (1e8, 0.0039)}  # λ · L on unrelated random embeddings


def objective(batch_size: int = 6, width: int | None = 5, **configs: dict[str, object]) -> Objective:
    return Objective({name: LossConfig(**fields) for name, fields in configs.items()}, batch_size, width)


def test_the_total_is_the_weighted_sum_of_the_losses(embeddings) -> None:
    student, teacher = embeddings(1), embeddings(2)
    weighted = objective(clip={"weight": 1}, crd={"weight": 3}, fd={"weight": 0.5})
    values = weighted(Comparison(student, teacher, student))
    alone = {name: build_loss(name)(student, teacher).item() for name in ("clip", "crd", "fd")}
    assert {name: value.item() for name, value in values.terms.items()} == pytest.approx(alone)
    assert values.total.item() == pytest.approx(alone["clip"] + 3 * alone["crd"] + 0.5 * alone["fd"])
    assert values.total.requires_grad
    assert not any(value.requires_grad for value in values.terms.values())


def test_a_loss_of_weight_0_is_never_computed(embeddings, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> torch.Tensor:
        raise AssertionError("computed")

    monkeypatch.setattr(LOSSES["crd"], "__call__", fail)
    off = objective(clip={}, crd={"weight": 0})
    assert set(off(Comparison(embeddings(1), embeddings(2), embeddings(1))).terms) == {"clip"}


def test_a_scheduled_loss_is_computed_while_it_is_on(embeddings) -> None:
    student, teacher = embeddings(1), embeddings(2)
    ramp = {"value": 2.0, "initial": 1.0, "ramp_steps": 4, "on_step": 3, "off_step": 9}
    scheduled = objective(clip={"weight": 1}, crd={"weight": ramp})
    clip, crd = (build_loss(name)(student, teacher).item() for name in ("clip", "crd"))
    for step, weight in ((0, 0), (2, 0), (3, 1), (5, 1.5), (7, 2), (8, 2), (9, 0)):
        values = scheduled(Comparison(student, teacher, student), step)
        assert set(values.terms) == ({"clip", "crd"} if weight else {"clip"})
        assert values.total.item() == pytest.approx(clip + weight * crd)
        assert scheduled.weights_at(step) == pytest.approx({"clip": 1} | ({"crd": weight} if weight else {}))
        assert scheduled.loss_inputs(step).teacher == bool(weight)
    assert scheduled.weights == {"clip": 1, "crd": 2}
    assert scheduled.needs_teacher


def test_at_a_step_without_any_loss_nothing_moves(embeddings) -> None:
    student = embeddings(1)
    late = objective(clip={"weight": {"value": 1.0, "on_step": 2}})
    values = late(Comparison(student, None, student), step=0)
    values.total.backward()
    assert (values.total.item(), values.terms) == (0, {})
    assert not student.scale.grad


def test_published_weights_are_translated_to_the_batch_and_the_width_and_others_are_not() -> None:
    fd, gd = {"weight": 2000, **RELEASED}, {"weight": 1e8, **RELEASED}
    assert objective(64, 128, fd=fd, gd=gd).weights == pytest.approx({"fd": 500, "gd": 1e8 / 16**2 / 4})
    here = {"weight_at": "here"}
    assert objective(64, 128, fd=fd | here, gd=gd | here).weights == {"fd": 2000, "gd": 1e8}
    assert objective(64, 128, fd={"weight": 2000}, gd={"weight": 1}).weights == {"fd": 2000, "gd": 1}


@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize(("num_pairs", "width"), [(1024, 128), (256, 512), (256, 128), (256, 64)])
def test_a_translated_weight_keeps_its_losss_share(embeddings, name: str, num_pairs: int, width: int) -> None:
    published, share = SHARES[name]
    student, teacher = (embeddings(seed, num_pairs, width, scale) for seed, scale in ((1, 14.3), (2, 50.0)))
    translated = objective(num_pairs, width, **{name: {"weight": published, **RELEASED}})
    values = translated(Comparison(student, teacher, student))
    assert values.total.item() == pytest.approx(share, rel=0.1)


@pytest.mark.parametrize("name", sorted(LOSSES.keys() - SHARES.keys()))
@pytest.mark.parametrize("convention", ["paper", "released"])
def test_the_other_losses_weights_travel_as_they_are(name: str, convention: str) -> None:
    assert LOSSES[name](convention).translation(64, 128) == 1


@pytest.mark.parametrize("name", SHARES)
def test_the_papers_equations_weights_travel_as_they_are(name: str) -> None:
    assert LOSSES[name]("paper").translation(64, 128) == 1


def test_the_chunk_size_follows_the_batch_size_or_the_setting() -> None:
    configs = {"clip": LossConfig()}
    assert [Objective(configs, size, None).chunk_size for size in (128, 2048, 2049)] == [0, 0, 512]
    assert [Objective(configs, 4096, None, size).chunk_size for size in (0, 64)] == [0, 64]


def test_it_passes_on_what_its_losses_want_to_be_given() -> None:
    wants = objective(clip={}, mfd={"mask_ratio": 0.5, "mask_feeds": "mfd"}, intermediate={"student_blocks": [1]})
    assert (wants.masking.ratio, wants.masking.feeds_all) == (0.5, False)
    loss_inputs = wants.loss_inputs(0)
    assert loss_inputs.masking is wants.masking
    assert [tuple(key) for key in loss_inputs.student_features] == [(1, "map")]
    assert [tuple(key) for key in loss_inputs.teacher_features] == [(-1, "map")]
    nothing = objective(clip={}).loss_inputs(0)
    assert (nothing.teacher, nothing.masking, nothing.features) == (False, None, {})


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        ({"icll": {}}, "did you mean 'icl'"),
        ({"fd": {"convention": "release"}}, "did you mean 'released'"),
        ({"fd": {"temprature": 2}}, "temprature"),
        ({"clip": {"scales": 50}}, "did you mean 'scale'"),
        ({"clip": {"weight": 0}}, "every loss has weight 0"),
        ({"gd": {"weight": 1e8}}, "convention=released"),
        ({"affinity": {"scale": "hot"}}, "loss.affinity: "),
    ],
)
def test_what_cannot_be_is_refused_with_the_remedy(configs: dict[str, dict[str, object]], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as refusal:
        objective(8, 16, **configs)
    assert "\n" not in str(refusal.value)


def test_a_loss_that_needs_a_teacher_is_refused_without_one() -> None:
    with pytest.raises(ValueError, match=r"teacher\.model"):
        objective(8, None, fd={})
    assert objective(8, None, clip={}).weights == {"clip": 1}
