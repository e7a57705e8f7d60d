import re

import pytest
import torch

from workbench.config.run import LossConfig
from workbench.embeddings import Comparison
from workbench.losses import LOSSES, build_loss
from workbench.losses.objective import Objective


def test_the_total_is_the_weighted_sum_of_the_losses(embeddings) -> None:
    student, teacher = embeddings(1), embeddings(2)
    objective = Objective(
        {"clip": LossConfig(weight=1), "crd": LossConfig(weight=3), "fd": LossConfig(weight=0.5)}, 6, 5
    )
    values = objective(Comparison(student, teacher, student))
    alone = {name: float(build_loss(name)(student, teacher)) for name in ("clip", "crd", "fd")}
    assert {name: float(value) for name, value in values.terms.items()} == pytest.approx(alone)
    assert float(values.total) == pytest.approx(alone["clip"] + 3 * alone["crd"] + 0.5 * alone["fd"])


def test_a_loss_of_weight_0_is_never_computed(embeddings, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> torch.Tensor:
        raise AssertionError("computed")

    monkeypatch.setattr(LOSSES["crd"], "__call__", fail)
    objective = Objective({"clip": LossConfig(), "crd": LossConfig(weight=0)}, 6, 5)
    assert set(objective(Comparison(embeddings(1), embeddings(2), embeddings(1))).terms) == {"clip"}


def test_published_weights_are_translated_to_the_width_and_others_are_not() -> None:
    fd = {"weight": 2000, "convention": "released"}
    assert Objective({"fd": LossConfig(**fd)}, 64, 128).weights == {"fd": 500.0}
    assert Objective({"fd": LossConfig(**fd, weight_at="here")}, 64, 128).weights == {"fd": 2000.0}


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        ({"icll": {}}, "did you mean 'icl'"),
        ({"fd": {"convention": "release"}}, "did you mean 'released'"),
        ({"fd": {"temprature": 2}}, "temprature"),
        ({"clip": {"weight": 0}}, "every loss has weight 0"),
    ],
)
def test_what_cannot_be_is_refused_with_the_remedy(configs: dict[str, dict[str, object]], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Objective({name: LossConfig(**fields) for name, fields in configs.items()}, 8, 16)


def test_a_loss_that_needs_a_teacher_says_so() -> None:
    with pytest.raises(ValueError, match=r"teacher\.model"):
        Objective({"fd": LossConfig()}, 8, None)
