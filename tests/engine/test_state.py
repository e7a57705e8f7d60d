import pytest
import torch

from workbench.engine.build import build_cohort


@pytest.fixture
def state(tiny):
    return build_cohort({"run": tiny()}).members[0].state


def test_only_matrices_decay(state) -> None:
    decaying, free = state.optimizer.param_groups
    assert decaying["weight_decay"] == 0.1
    assert free["weight_decay"] == 0
    assert all(parameter.ndim >= 2 for parameter in decaying["params"])
    assert any(parameter is state.student.towers.logit_scale for parameter in free["params"])
    assert len(decaying["params"]) + len(free["params"]) == len(list(state.parameters()))


def test_projections_and_loss_scales_learn_with_the_student(state) -> None:
    optimised = {id(p) for group in state.optimizer.param_groups for p in group["params"]}
    assert all(id(parameter) in optimised for parameter in state.learnt.parameters())
    assert len(list(state.learnt.parameters())) == 5  # two projections with bias, and icl's scale


def test_every_scale_is_clamped(state) -> None:
    with torch.no_grad():
        state.student.towers.logit_scale.fill_(50)
        state.learnt.parts["icl"].logit_scale.fill_(-50)
    state.clamp_()
    scales = {name: float(scale) for name, scale in state.scales().items()}
    assert scales == pytest.approx({"student": 100.0, "icl": 1.0})
