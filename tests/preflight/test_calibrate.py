import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.config.base import Schedule
from workbench.engine.build import build_cohort
from workbench.engine.gradients import diagnose
from workbench.preflight.calibrate import balanced_weights, calibrate, complete_shares, measure_norms
from workbench.preflight.timing import PairCost

LOSSES = ("clip", "crd", "fd", "icl")


def shares_when_measured_again(config) -> dict[str, float]:
    """The shares of a run's losses with the weights it has, the mean norms over its first four batches."""
    shortened = config.model_copy(update={"train": config.train.model_copy(update={"num_steps": 4})})
    norms = measure_norms(build_cohort({"again": shortened}))
    return {name: norm / sum(norms.values()) for name, norm in norms.items()}


@pytest.mark.parametrize("chosen", [{}, {"fd": 0.5}, {"clip": 0.1, "crd": 0.2, "fd": 0.3, "icl": 0.4}])
def test_the_weights_give_the_chosen_shares_when_measured_again(tiny, chosen: dict[str, float]) -> None:
    calibration = calibrate(tiny(), chosen)
    assert calibration.config.loss["clip"].weight == 1
    assert all(loss.weight_at == "here" for loss in calibration.config.loss.values())
    expected = complete_shares(LOSSES, chosen)
    assert shares_when_measured_again(calibration.config) == pytest.approx(expected, rel=1e-3)
    assert {loss.name: loss.proposed.share for loss in calibration.losses} == pytest.approx(expected, rel=1e-3)


def test_norms_are_those_at_weight_1_for_any_recipe(tiny) -> None:
    norms = {loss.name: loss.norm for loss in calibrate(tiny(), num_batches=1).losses}
    cohort = build_cohort({"run": tiny()})
    _, batch = next(cohort.batches())
    (member,) = cohort.members
    weighted_K = diagnose(member.state, batch, cohort.teacher_forward(batch, 0), member.objective, 0).tower_norm_K
    assert list(norms.values()) == pytest.approx(weighted_K / [1, 1, 5, 1], rel=1e-5)


def test_the_recipes_and_the_published_weights_stand_beside_the_proposed(tiny) -> None:
    losses = {loss.name: loss for loss in calibrate(tiny(), num_batches=1).losses}
    assert losses["crd"].published.weight == 0.5
    assert losses["fd"].published.weight == 2000 / 512
    assert losses["fd"].recipe.weight == 5
    for column in ("published", "recipe", "proposed"):
        assert sum(getattr(loss, column).share for loss in losses.values()) == pytest.approx(1)
    pulls = {name: loss.norm * loss.recipe.weight for name, loss in losses.items()}
    assert losses["fd"].recipe.share == pytest.approx(pulls["fd"] / sum(pulls.values()))


def test_a_published_weight_is_translated_to_the_batch_and_the_width(tiny) -> None:
    losses = calibrate(tiny(loss={"fd": {"weight": 2000.0, "convention": "released"}}), num_batches=1).losses
    fd = next(loss for loss in losses if loss.name == "fd")
    assert fd.published.weight == fd.recipe.weight == pytest.approx(2000 * 24 / 512)


def test_a_loss_without_a_published_weight_has_none(tiny) -> None:
    losses = {"crd": {"weight": 0}, "icl": {"weight": 0}, "gd": {"weight": 1e-4, "convention": "paper"}}
    clip, fd, gd = calibrate(tiny(loss=losses), num_batches=1).losses
    assert gd.published is None
    assert clip.published.share + fd.published.share == pytest.approx(1)
    assert gd.proposed.share == pytest.approx(1 / 3, rel=1e-3)


def test_a_loss_that_is_off_stays_off(tiny) -> None:
    calibration = calibrate(tiny(loss={"icl": {"weight": 0}}), num_batches=1)
    assert [loss.name for loss in calibration.losses] == ["clip", "crd", "fd"]
    assert calibration.config.loss["icl"].weight == 0


def test_a_schedule_keeps_its_course_and_gets_another_height(tiny) -> None:
    ramp = {"value": 2.0, "initial": 1.0, "ramp_steps": 6, "on_step": 3}
    calibration = calibrate(tiny(loss={"fd": {"weight": ramp}}), {"fd": 0.4}, num_batches=1)
    fd = next(loss for loss in calibration.losses if loss.name == "fd")
    weight = calibration.config.loss["fd"].weight
    assert fd.recipe.weight == 2
    assert isinstance(weight, Schedule)
    assert (weight.value, weight.initial) == pytest.approx((fd.proposed.weight, fd.proposed.weight / 2))
    assert (weight.ramp_steps, weight.on_step) == (6, 3)


def test_without_clip_the_summed_norm_stays(tiny) -> None:
    losses = calibrate(tiny(loss={"clip": {"weight": 0}}), num_batches=1).losses
    before = sum(loss.norm * loss.recipe.weight for loss in losses)
    assert sum(loss.norm * loss.proposed.weight for loss in losses) == pytest.approx(before, rel=1e-3)


positive = st.floats(1e-9, 1e9)


@given(st.lists(st.tuples(positive, positive, positive), min_size=2, max_size=6), st.booleans())
def test_weights_times_norms_are_in_the_chosen_proportion(rows, has_clip: bool) -> None:
    names = ["clip" if has_clip else "gd", *(f"loss{number}" for number in range(1, len(rows)))]
    norms, weights, parts = (dict(zip(names, column, strict=True)) for column in zip(*rows, strict=True))
    shares = {name: part / sum(parts.values()) for name, part in parts.items()}
    found = balanced_weights(norms, weights, shares)
    pulls = {name: found[name] * norms[name] for name in names}
    assert {name: pull / sum(pulls.values()) for name, pull in pulls.items()} == pytest.approx(shares, rel=2e-3)
    if has_clip:
        assert found["clip"] == weights["clip"]
    else:
        assert sum(pulls.values()) == pytest.approx(sum(weights[name] * norms[name] for name in names), rel=1e-3)


def test_balancing_in_numbers() -> None:
    norms, weights = {"clip": 2.0, "fd": 0.01, "icl": 3.0}, {"clip": 1.0, "fd": 2000.0, "icl": 1.0}
    assert balanced_weights(norms, weights, {"clip": 0.5, "fd": 0.3, "icl": 0.2}) == {
        "clip": 1.0,
        "fd": 120.0,
        "icl": 0.2667,
    }


@pytest.mark.parametrize("norm", [0.0, float("inf"), float("nan")])
def test_a_loss_that_pulls_at_nothing_cannot_have_a_share(norm: float) -> None:
    with pytest.raises(ValueError, match=r"--set loss.fd.weight=0"):
        balanced_weights({"clip": 1.0, "fd": norm}, {"clip": 1.0, "fd": 1.0}, {"clip": 0.5, "fd": 0.5})


def test_shares_that_are_not_chosen_are_equal() -> None:
    assert complete_shares(LOSSES, {}) == dict.fromkeys(LOSSES, 0.25)
    assert complete_shares(LOSSES, {"fd": 0.4}) == pytest.approx({"clip": 0.2, "crd": 0.2, "fd": 0.4, "icl": 0.2})
    tenths = {"clip": 0.1, "crd": 0.2, "fd": 0.3, "icl": 0.4}
    assert complete_shares(LOSSES, tenths) == tenths


@pytest.mark.parametrize(
    ("chosen", "remedy"),
    [
        ({"fdd": 0.5}, "did you mean 'fd'?"),
        ({"gd": 0.5}, "choose one of: clip, crd, fd, icl"),
        ({"fd": 1.0}, "below 1"),
        ({"fd": 0.0}, "above 0"),
        ({"fd": float("nan")}, "above 0"),
        ({"fd": 0.7, "icl": 0.6}, "add up to 1.3: lower them"),
        ({"fd": 0.7, "icl": 0.3}, "nothing is left for clip, crd"),
        ({"clip": 0.1, "crd": 0.2, "fd": 0.3, "icl": 0.3}, "add up to 0.9: leave one out"),
    ],
)
def test_shares_that_cannot_be_are_refused_with_the_remedy(chosen: dict[str, float], remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy.replace("?", r"\?")):
        complete_shares(LOSSES, chosen)


def test_a_single_loss_has_nothing_to_share() -> None:
    with pytest.raises(ValueError, match="single loss"):
        complete_shares(["clip"], {})


def test_a_student_that_starts_as_its_teacher_is_not_calibrated(tiny) -> None:
    stage = {"sparsity": 0.5, "num_steps": 12, "mask_steps": 4, "ramp_steps": 2}
    config = tiny(student={"model": "inherited"}, inheritance={"stages": [stage]})
    with pytest.raises(ValueError, match=r"\Aa student that learns masks starts as its teacher, .*calibrate.*\Z"):
        calibrate(config)


def test_what_would_take_this_machine_hours_is_refused_with_the_ways_out(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = PairCost(teacher_forward_s=1.0, learn_s={"calibration": 60.0}, grown_mb=0.0, chunk_size=20)
    monkeypatch.setattr("workbench.preflight.timing.time_pairs", lambda _: slow)
    monkeypatch.setattr("workbench.preflight.calibrate.measure_norms", lambda *_: 1 / 0)
    with pytest.raises(ValueError, match=r"4 batches of 20 pairs.*about 4\.0 h.*--batches 1.*train\.batch_size"):
        calibrate(tiny())
