import pytest

from workbench.engine.build import make_objective
from workbench.engine.device import resolved
from workbench.preflight.settings import setting_findings, share_findings


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
