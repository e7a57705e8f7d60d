"""Gate noise depends on seed and step, sparsity is that of the original teacher, the constraint reaches its target."""

import math

import pytest
import torch

from workbench.config.inheritance import GatesConfig, TowerShape
from workbench.inheritance.gates import Gates
from workbench.inheritance.masks import GROUPS, MAX_LOG_ALPHA, deterministic_gates, open_probability

IMAGE = TowerShape(width=768, head_width=64, heads=(12,) * 12, channels=(3072,) * 12)
TEXT = TowerShape(width=512, head_width=64, heads=(8,) * 12, channels=(2048,) * 12)
VIT_B = {"image": IMAGE, "text": TEXT}
TOTAL = IMAGE.block_weights + TEXT.block_weights
SMALL = TowerShape(width=8, head_width=4, heads=(2, 1), channels=(6, 3))


def polarised(gates, share=0.7, seed=0):
    """Gates as they are once they have learnt: nearly all at one end or the other, some between."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for log_alpha in gates.log_alphas():
            ends = MAX_LOG_ALPHA * (2.0 * (torch.rand(log_alpha.shape, generator=generator) < share) - 1)
            between = torch.rand(log_alpha.shape, generator=generator) < 0.1
            log_alpha.copy_(torch.where(between, ends * torch.rand(log_alpha.shape, generator=generator), ends))


def test_there_is_a_gate_for_every_head_channel_and_embedding_channel():
    gates = Gates({"image": SMALL}, GatesConfig(), SMALL.block_weights)
    shapes = {name: tuple(parameter.shape) for name, parameter in gates.named_parameters()}
    assert shapes == {
        "multipliers": (2,),
        "towers.image.embedding": (8,),
        "towers.image.heads": (3,),
        "towers.image.channels": (9,),
    }
    assert all((log_alpha == 10).all() for log_alpha in gates.log_alphas())
    assert gates.multipliers.tolist() == [10, 10]
    gates.clamp_()
    assert all((log_alpha == torch.tensor(math.log(100))).all() for log_alpha in gates.log_alphas())


def test_the_expected_sparsity_is_one_gate_at_a_time():
    gates = Gates({"image": SMALL}, GatesConfig(sparsity=0.9), 2 * SMALL.block_weights)
    polarised(gates, 0.5)
    tower = gates.tower("image")
    left = 0.0
    embedding, heads, channels = (open_probability(tower.log_alpha(group)).tolist() for group in GROUPS)
    for channel in embedding:
        left += sum(channel * head * 4 * 4 for head in heads)
        left += sum(channel * inner * 2 for inner in channels)
    assert float(gates.expected_sparsity().detach()) == pytest.approx(1 - left / (2 * SMALL.block_weights), rel=1e-5)


def test_expected_counts_agree_with_the_sliced_matrices_of_vit_b():
    for seed, share in enumerate((0.5, 0.7, 0.9)):
        gates = Gates(VIT_B, GatesConfig(), TOTAL)
        polarised(gates, share, seed)
        counted = 0
        for tower, mask in gates.masks().items():
            shape = mask.selection(VIT_B[tower]).shape(VIT_B[tower])
            counted += sum(4 * shape.width * 64 * heads for heads in shape.heads)
            counted += sum(2 * shape.width * channels for channels in shape.channels)
        expected = (1 - float(gates.expected_sparsity().detach())) * TOTAL
        assert expected == pytest.approx(counted, rel=0.01)


@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.75])
def test_the_final_masks_of_vit_b_meet_the_target_to_an_ffn_channel(sparsity):
    gates = Gates(VIT_B, GatesConfig(sparsity=sparsity), TOTAL)
    polarised(gates, 0.7)
    left = sum(mask.num_weights(VIT_B[tower]) for tower, mask in gates.final_masks().items())
    budget = (1 - sparsity) * TOTAL
    assert budget - 2 * 768 < left <= budget


def test_noise_is_a_function_of_seed_and_step():
    def drawn(seed, step, before=0):
        gates = Gates({"image": SMALL}, GatesConfig(), SMALL.block_weights)
        gates.clamp_()
        for other in range(before):
            gates.sample_noise(9, other)
        gates.sample_noise(seed, step)
        return torch.cat([gates.tower("image").noise[group] for group in GROUPS])

    assert torch.equal(drawn(3, 7), drawn(3, 7, before=4))
    assert not torch.equal(drawn(3, 7), drawn(3, 8))
    assert not torch.equal(drawn(3, 7), drawn(4, 7))
    assert drawn(0, 0)[:3].tolist() == pytest.approx([0.061738, 0.115668, 0.290681], abs=1e-5)  # pinned


def test_one_sample_serves_every_forward_of_a_step():
    gates = Gates({"image": SMALL}, GatesConfig(), SMALL.block_weights)
    polarised(gates, 0.5)
    tower = gates.tower("image")
    with pytest.raises(AssertionError, match="sample_noise"):
        tower.update_values(training=True)
    gates.sample_noise(0, 0)
    tower.update_values(training=True)
    first = tower.values
    tower.update_values(training=True)
    assert torch.equal(first.embedding_C, tower.values.embedding_C)
    assert [len(part) for part in first.heads] == [2, 1]
    assert [len(part) for part in first.channels] == [6, 3]
    tower.update_values(training=False)
    assert not torch.equal(first.embedding_C, tower.values.embedding_C)


def test_the_target_rises_from_where_the_stage_starts():
    config = GatesConfig(sparsity=0.5, ramp_steps=100)
    gates = Gates({"image": SMALL}, config, 4 * SMALL.block_weights // 3)
    assert gates.start_sparsity == pytest.approx(0.25, abs=2e-3)
    assert [gates.target(step) for step in (0, 50, 100, 5000)] == pytest.approx([0.25, 0.375, 0.5, 0.5], abs=2e-3)


def test_a_target_behind_the_start_is_refused():
    with pytest.raises(ValueError, match=r"^sparsity 0\.5 is already met: 0\.500"):
        Gates({"image": SMALL}, GatesConfig(sparsity=0.5), 2 * SMALL.block_weights)


@pytest.mark.parametrize("constraint", ["paper", "released"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_the_penalty_is_the_equation(constraint, share):
    config = GatesConfig(sparsity=0.5, ramp_steps=10, constraint=constraint)
    gates = Gates({"image": SMALL}, config, SMALL.block_weights)
    polarised(gates, share)
    with torch.no_grad():
        gates.multipliers.copy_(torch.tensor([3.0, 7.0]))
    missing = 0.5 - float(gates.expected_sparsity().detach())
    assert (missing > 0) == (share > 0.5)
    penalty = gates.penalty(10)
    penalty.backward()
    if constraint == "released" and missing < 0:
        assert float(penalty.detach()) == 0
        assert all(not parameter.grad.any() for parameter in gates.parameters())
    else:
        assert float(penalty.detach()) == pytest.approx(3 * missing + 7 * missing**2, rel=1e-4)
        assert gates.multipliers.grad.tolist() == pytest.approx([missing, missing**2], rel=1e-4)
        slope = 3 + 14 * missing
        assert (gates.tower("image").channels.grad.sign() == math.copysign(1, slope)).all()


@pytest.mark.parametrize("constraint", ["paper", "released"])
def test_the_constraint_alone_reaches_its_target(constraint):
    config = GatesConfig(sparsity=0.5, ramp_steps=150, constraint=constraint)
    shapes = {"image": TowerShape(width=32, head_width=8, heads=(4,) * 3, channels=(64,) * 3), "text": SMALL}
    total = sum(shape.block_weights for shape in shapes.values())
    gates = Gates(shapes, config, total)
    groups = [{"params": gates.log_alphas()}, {"params": [gates.multipliers], "maximize": True}]
    optimizer = torch.optim.AdamW(groups, lr=0.05, weight_decay=0, betas=(0.9, 0.98))
    for step in range(400):
        optimizer.zero_grad()
        gates.penalty(step).backward()
        optimizer.step()
        gates.clamp_()
    sparsity = float(gates.expected_sparsity().detach())
    if constraint == "released":  # nothing pulls it back from where the optimizer's momentum carried it
        assert 0.5 <= sparsity < 0.65
    else:
        assert sparsity == pytest.approx(0.5, abs=0.03)
    left = sum(mask.num_weights(shapes[tower]) for tower, mask in gates.final_masks().items())
    assert left / total == pytest.approx(0.5, abs=0.01)
    assert left <= total // 2


def test_the_state_comes_back():
    config = GatesConfig()
    one, other = (Gates({"image": SMALL, "text": IMAGE}, config, TOTAL) for _ in range(2))
    polarised(one)
    other.load_state_dict(one.state_dict())
    assert float(one.expected_sparsity().detach()) == float(other.expected_sparsity().detach())
    assert set(one.open_probabilities()) == {f"{tower}/{group}" for tower in ("image", "text") for group in GROUPS}


def test_fixed_masks_are_seen_in_training_too():
    gates = Gates({"image": SMALL}, GatesConfig(), SMALL.block_weights)
    polarised(gates, 0.5)
    gates.sample_noise(0, 0)
    gates.fix(gates.final_masks())
    tower = gates.tower("image")
    assert tower.masks() is tower.fixed
    for training in (False, True):
        tower.update_values(training)
        assert torch.equal(tower.values.embedding_C, deterministic_gates(tower.embedding) * tower.fixed.embedding)
        assert torch.equal(torch.cat(tower.values.heads) != 0, tower.fixed.heads)
    gates.fix(None)
    assert tower.fixed is None
