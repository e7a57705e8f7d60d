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
    assert all(id(parameter) in optimised for parameter in state.learned.parameters())
    assert len(list(state.learned.parameters())) == 5  # two projections with bias, and icl's scale


def test_every_scale_is_clamped(state) -> None:
    with torch.no_grad():
        state.student.towers.logit_scale.fill_(50)
        state.learned.parts["icl"].logit_scale.fill_(-50)
    state.clamp_()
    scales = {name: float(scale) for name, scale in state.scales().items()}
    assert scales == pytest.approx({"student": 100.0, "icl": 1.0})


def test_a_loaded_moment_has_the_dtype_and_strides_of_its_parameter(state) -> None:
    weight = torch.nn.Parameter(torch.empty(4, 3, 2, 2, dtype=torch.bfloat16).to(memory_format=torch.channels_last))
    state.student.towers.visual.conv1.weight = weight
    name = "student.towers.visual.conv1.weight"
    value = torch.arange(48.0).view(4, 3, 2, 2)
    state.load_optimizer_tensors({f"{name}/exp_avg": value, f"{name}/step": torch.tensor(7.0)})
    loaded = state.optimizer.state[weight]
    assert loaded["exp_avg"].stride() == weight.stride() != value.stride()
    assert loaded["exp_avg"].dtype == torch.bfloat16
    assert torch.equal(loaded["exp_avg"].float(), value)
    assert (loaded["step"].item(), loaded["step"].dtype, loaded["step"].device) == (7, torch.float32, weight.device)
