"""Masks keep the gates with the largest log α, as many as expected; final masks use the budget to the last gate."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.config.inheritance import TowerShape
from workbench.inheritance.masks import (
    GROUPS,
    MAX_LOG_ALPHA,
    TowerMasks,
    deterministic_gates,
    expected_masks,
    final_masks,
    open_probability,
    sample_gates,
)

IMAGE = TowerShape(width=20, head_width=4, heads=(5, 0, 3), channels=(30, 12, 0))
TEXT = TowerShape(width=9, head_width=2, heads=(4, 4), channels=(17, 21))
SHAPES = {"image": IMAGE, "text": TEXT}
SIZES = {"embedding": lambda s: s.width, "heads": lambda s: sum(s.heads), "channels": lambda s: sum(s.channels)}


def random_gates(shape, seed, spread):
    generator = torch.Generator().manual_seed(seed)
    return {
        g: (torch.randn(SIZES[g](shape), generator=generator) * spread).clamp(-MAX_LOG_ALPHA, MAX_LOG_ALPHA)
        for g in GROUPS
    }


def expected_open(log_alpha):
    return sum(1 / (1 + math.exp(-(float(a) + 2 / 3 * math.log(11)))) for a in log_alpha)


@given(st.integers(0, 1000), st.floats(0.1, 6))
def test_every_group_and_layer_closes_as_many_as_it_expects_to_the_smallest_first(seed, spread):
    gates = random_gates(IMAGE, seed, spread)
    masks = expected_masks(IMAGE, gates)
    groups = [(gates["embedding"], masks.embedding, 1)]
    for name, sizes in (("heads", IMAGE.heads), ("channels", IMAGE.channels)):
        parts = zip(gates[name].split(sizes), getattr(masks, name).split(sizes), strict=True)
        groups += [(log_alpha, mask, 0) for log_alpha, mask in parts]
    for log_alpha, mask, at_least in groups:
        num_closed = len(log_alpha) - expected_open(log_alpha)
        if abs(num_closed % 1 - 0.5) > 1e-5:
            assert int(mask.sum()) == max(at_least, len(log_alpha) - round(num_closed))
        if mask.any() and not mask.all():
            assert log_alpha[mask].min() >= log_alpha[~mask].max()


def test_of_equal_gates_the_first_stay():
    masks = expected_masks(TEXT, {group: torch.full((SIZES[group](TEXT),), -1.5) for group in GROUPS})
    kept = round(9 * expected_open([-1.5]))
    assert masks.embedding.tolist() == [True] * kept + [False] * (9 - kept)
    for own, mask in zip(TEXT.channels, masks.channels.split(TEXT.channels), strict=True):
        assert mask.tolist() == sorted(mask.tolist(), reverse=True)
        assert int(mask.sum()) == own - round(own * (1 - expected_open([-1.5])))


def test_one_embedding_channel_always_stays():
    closed = {group: torch.full((SIZES[group](TEXT),), -MAX_LOG_ALPHA) for group in GROUPS}
    masks = expected_masks(TEXT, closed, shift=50)
    assert int(masks.embedding.sum()) == 1
    assert not masks.heads.any()
    assert not masks.channels.any()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.0, 6), st.floats(0.01, 0.999))
def test_the_final_masks_fit_the_budget_and_leave_room_for_no_gate_more(seed, spread, share):
    gates = {tower: random_gates(shape, seed, spread) for tower, shape in SHAPES.items()}
    budget = int(share * sum(shape.block_weights for shape in SHAPES.values()))
    masks = final_masks(SHAPES, gates, budget)
    used = sum(masks[tower].num_weights(shape) for tower, shape in SHAPES.items())
    assert used <= budget
    for tower, shape in SHAPES.items():
        for group in GROUPS:
            mask = getattr(masks[tower], group)
            closed = (~mask).nonzero().flatten().tolist()
            for index in closed[:3]:
                more = {name: getattr(masks[tower], name).clone() for name in GROUPS}
                more[group][index] = True
                extra = TowerMasks(**more).num_weights(shape) - masks[tower].num_weights(shape)
                assert used + extra > budget, (tower, group, index)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_within_a_group_and_layer_the_final_masks_keep_the_largest(seed):
    gates = {tower: random_gates(shape, seed, 3.0) for tower, shape in SHAPES.items()}
    masks = final_masks(SHAPES, gates, int(0.5 * sum(shape.block_weights for shape in SHAPES.values())))
    for tower, shape in SHAPES.items():
        for name, sizes in (("heads", shape.heads), ("channels", shape.channels), ("embedding", (shape.width,))):
            parts = zip(gates[tower][name].split(sizes), getattr(masks[tower], name).split(sizes), strict=True)
            for log_alpha, mask in parts:
                if mask.any() and not mask.all():
                    assert log_alpha[mask].min() >= log_alpha[~mask].max()


def test_gates_that_meet_the_target_keep_their_masks():
    generator = torch.Generator().manual_seed(0)
    gates, shapes = {}, {}
    for tower, (width, heads, channels) in {"image": (768, 12, 3072), "text": (512, 8, 2048)}.items():
        shapes[tower] = TowerShape(width=width, head_width=64, heads=(heads,) * 12, channels=(channels,) * 12)
        gates[tower] = {
            group: MAX_LOG_ALPHA * (2.0 * (torch.rand(SIZES[group](shapes[tower]), generator=generator) < 0.7) - 1)
            for group in GROUPS
        }
    expected_of = {tower: expected_masks(shape, gates[tower]) for tower, shape in shapes.items()}
    budget = sum(mask.num_weights(shapes[tower]) for tower, mask in expected_of.items())
    final = final_masks(shapes, gates, budget)
    for tower, mask in expected_of.items():
        for group in GROUPS:
            assert torch.equal(getattr(final[tower], group), getattr(mask, group))


def test_untrained_gates_leave_an_even_tower():
    gates = {
        tower: {g: torch.full((SIZES[g](shape),), MAX_LOG_ALPHA) for g in GROUPS} for tower, shape in SHAPES.items()
    }
    total = sum(shape.block_weights for shape in SHAPES.values())
    masks = final_masks(SHAPES, gates, total // 2)
    for tower, shape in SHAPES.items():
        left = masks[tower].selection(shape)
        assert 0.6 < len(left.embedding) / shape.width < 0.8
        for kept, own in zip(left.channels, shape.channels, strict=True):
            assert 0.5 * own <= len(kept) <= 0.9 * own


def test_a_selection_names_what_stays():
    masks = TowerMasks(
        torch.arange(9) % 2 == 0,
        torch.tensor([True, False, False, True] + [False] * 4),
        torch.arange(38) >= 36,
    )
    chosen = masks.selection(TEXT)
    assert chosen.layers == (0, 1)
    assert chosen.embedding == (0, 2, 4, 6, 8)
    assert chosen.heads == ((0, 3), ())
    assert chosen.channels == ((), (19, 20))
    assert masks.num_weights(TEXT) == chosen.shape(TEXT).block_weights == (4 * 2 * 2 + 2 * 2) * 5


@pytest.mark.parametrize("budget", [0, 5])
def test_a_budget_for_nothing_leaves_one_embedding_channel(budget):
    gates = {"text": random_gates(TEXT, 0, 1.0)}
    masks = final_masks({"text": TEXT}, gates, budget)["text"]
    assert masks.num_weights(TEXT) <= budget


def by_formula(log_alpha: float, uniform: float) -> float:
    inside = (math.log(uniform / (1 - uniform)) + log_alpha) / (2 / 3)
    return min(1.0, max(0.0, 1.2 / (1 + math.exp(-inside)) - 0.1))


@pytest.mark.parametrize("log_alpha", [-4.605, -1.0, 0.0, 0.7, 4.605])
@pytest.mark.parametrize("uniform", [0.001, 0.2, 0.5, 0.9, 0.999])
def test_a_sample_is_the_formula(log_alpha, uniform):
    found = sample_gates(torch.tensor(log_alpha, dtype=torch.float64), torch.tensor(uniform, dtype=torch.float64))
    assert float(found) == pytest.approx(by_formula(log_alpha, uniform), abs=1e-12)


@pytest.mark.parametrize("log_alpha", [-3.0, -1.6, 0.0, 2.0])
def test_the_share_of_open_gates_is_their_probability(log_alpha):
    uniform = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    share = (sample_gates(torch.tensor(log_alpha, dtype=torch.float64), uniform) != 0).double().mean()
    probability = open_probability(torch.tensor(log_alpha, dtype=torch.float64))
    assert float(share) == pytest.approx(float(probability), abs=1e-5)


def test_the_numbers_of_the_paper():
    assert float(open_probability(torch.tensor(math.log(100)))) == pytest.approx(0.99798, abs=1e-5)
    assert float(open_probability(torch.tensor(-2 / 3 * math.log(11)))) == pytest.approx(0.5)
    assert float(deterministic_gates(torch.tensor(math.log(100)))) == pytest.approx(1 / (1 + 100**-1.2))
    assert float(deterministic_gates(torch.tensor(0.0))) == 0.5


def test_the_ends_of_the_noise_give_neither_infinities_nor_nan():
    log_alpha = torch.zeros(2, requires_grad=True)
    gates = sample_gates(log_alpha, torch.tensor([0.0, 1.0]))
    gates.sum().backward()
    assert gates.tolist() == [0.0, 1.0]
    assert log_alpha.grad.tolist() == [0.0, 0.0]
