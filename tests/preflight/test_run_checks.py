from dataclasses import replace

import pytest

from workbench.engine.build import build_cohort, make_objective
from workbench.engine.device import resolved
from workbench.preflight.cost import RunForecast
from workbench.preflight.run_checks import does_not_fit, forecast_findings, setting_findings, share_findings


def findings(config, num_pairs: int = 60, precisions: tuple[str, ...] = ("fp32",)):
    objective = config_objective(config)
    return list(setting_findings(resolved(config), objective, num_pairs=num_pairs, width=512, precisions=precisions))


def config_objective(config):
    return make_objective(config.model_copy(update={"loss": config.loss}), _Wide())


class _Wide:
    """Stands for a teacher, of which only the width is asked."""

    width = 512


def test_a_healthy_run_has_no_warning(healthy) -> None:
    assert {finding.level for finding in findings(healthy)} == {"ok"}


@pytest.mark.parametrize(
    ("changes", "check", "words", "remedy"),
    [
        ({"train": {"num_steps": 2}}, "length", "only 67% of 60 pairs", "train.num_steps=3 "),
        ({"train": {"num_steps": 400}}, "length", "133.3 times", "fewer steps"),
        ({"optimizer": {"warmup_fraction": 0.025}}, "warm-up", "0 of 12 steps", "warmup_fraction=0.167"),
        ({"optimizer": {"warmup_fraction": 0.5}}, "warm-up", "6 of 12 steps", "warmup_fraction=0.025"),
        ({"train": {"precision": "bf16"}}, "precision", "bf16 is slow", "precision=fp32"),
    ],
)
def test_odd_settings_are_warned_of(tiny, one, changes, check: str, words: str, remedy: str) -> None:
    found = one(findings(tiny(**{"optimizer": {"warmup_fraction": 0.17}} | changes)), check)
    assert found.level == "warning"
    assert words in found.message
    assert remedy in found.remedy


def test_the_proposed_warm_up_is_enough(tiny, one) -> None:
    for steps in (10, 33, 60, 79):
        cold = tiny(train={"num_steps": steps}, optimizer={"warmup_fraction": 0.0})
        fraction = float(one(findings(cold), "warm-up").remedy.partition("=")[2])
        warm = tiny(train={"num_steps": steps}, optimizer={"warmup_fraction": fraction})
        assert one(findings(warm), "warm-up").level == "ok"


def test_precision_is_that_of_the_device(tiny, one) -> None:
    assert one(findings(tiny(train={"precision": "bf16"}), precisions=("fp32", "bf16")), "precision").level == "ok"
    before_ampere = ("fp32", "fp16")
    assert one(findings(tiny(train={"precision": "fp16"}), precisions=before_ampere), "precision").level == "ok"
    for slow in ("bf16", "fp32"):
        found = one(findings(tiny(train={"precision": slow}), precisions=before_ampere), "precision")
        assert (found.level, "--set train.precision=fp16" in found.remedy) == ("warning", True)


def test_published_weights_are_translated_or_warned_of(tiny, one) -> None:
    gd = {"weight": 1e8, "convention": "released"}
    found = one(findings(tiny(loss={"gd": gd})), "weights")
    assert found.level == "ok"
    assert "translated" in found.message
    assert "gd 1e+08 to " in found.message
    found = one(findings(tiny(loss={"gd": gd | {"weight_at": "here"}})), "weights")
    assert (found.level, found.remedy) == ("warning", "--set loss.gd.weight_at=published")
    own = gd | {"weight_at": "here", "weight": 123.0}
    assert one(findings(tiny(loss={"gd": own})), "weights").level == "ok"


def test_shares_of_the_gradient(tiny, one) -> None:
    objective = config_objective(tiny())
    even = dict.fromkeys(("clip", "crd", "fd", "icl"), 0.25)
    assert one(list(share_findings(even, objective)), "gradient").level == "ok"
    assert not list(share_findings({}, objective))
    found = one(list(share_findings({"clip": 0.95, "crd": 0.035, "fd": 0.005, "icl": 0.01}, objective)), "gradient")
    assert found.level == "warning"
    assert "fd 0.5%" in found.message
    assert "leaves fd almost no effect" in found.message
    found = one(list(share_findings({"clip": 0.95, "crd": 0.02, "fd": 0.02, "icl": 0.01}, objective)), "gradient")
    assert "the others little effect next to clip" in found.message


def test_a_weight_that_is_still_rising_may_be_small(tiny, one) -> None:
    rising = {"value": 5.0, "initial": 0.01, "ramp_steps": 6}
    objective = config_objective(tiny(loss={"fd": {"weight": rising}}))
    found = list(share_findings({"clip": 0.5, "crd": 0.3, "fd": 0.001, "icl": 0.199}, objective))
    assert one(found, "gradient").level == "ok"


def test_stages_warm_up_while_they_learn_masks(tiny, one) -> None:
    stage = {"sparsity": 0.5, "num_steps": 12, "mask_steps": 4, "ramp_steps": 2}
    config = tiny(student={"model": "inherited"}, inheritance={"stages": [stage]})
    finding = one(findings(config), "warm-up")
    assert finding.level == "ok"
    assert "every stage" in finding.message


SOUND = RunForecast(
    num_steps=100,
    batch_size=100,
    learn_s=150.0,
    waiting_s=1.0,
    teacher_s=49.0,
    num_evaluations=4,
    student_evaluation_s=15.0,
    teacher_evaluation_s=5.0,
    state_mb=10.0,
    peak_mb=1000.0,
    room_mb=8000.0,
    checkpoints_mb=50.0,
)


@pytest.fixture
def cohort(tiny):
    return build_cohort({"run": tiny()})


def test_a_sound_forecast_has_no_warning(cohort, one) -> None:
    found = list(forecast_findings(SOUND, cohort, 1e6))
    assert {finding.level for finding in found} == {"ok"}
    assert one(found, "time").message == "100 steps in 3.3 min at 50 pairs/s, 4 evaluations in 20 s: 3.7 min in all"


@pytest.mark.parametrize(
    ("changes", "check", "level", "remedy"),
    [
        ({"peak_mb": 9000.0}, "memory", "problem", "train.micro_batch_size=5 "),
        ({"peak_mb": 7500.0}, "memory", "warning", "train.micro_batch_size=5 "),
        ({"checkpoints_mb": 2e6}, "disk", "problem", "log.keep_checkpoints=1"),
        ({"waiting_s": 100.0}, "data rate", "warning", "data.num_workers=4"),
        ({"learn_s": 8 * 86_400.0}, "time", "warning", "train.num_steps"),
        ({"learn_s": 31 * 86_400.0}, "time", "problem", "train.num_steps"),
        ({"student_evaluation_s": 500.0}, "evaluation time", "warning", "evaluate.every_steps"),
    ],
)
def test_runs_that_do_not_fit_or_take_long_are_found(cohort, one, changes, check: str, level: str, remedy: str) -> None:
    found = list(forecast_findings(replace(SOUND, **changes), cohort, 1e6))
    assert one(found, check).level == level
    assert remedy in one(found, check).remedy
    assert sum(finding.level != "ok" for finding in found) == 1


def test_a_batch_that_does_not_fit_is_a_problem(cohort) -> None:
    assert does_not_fit(cohort).level == "problem"
    assert "a batch of 20" in does_not_fit(cohort).message
