"""Gates against the distribution's own definition, by counting draws and by arithmetic."""

import math

import pytest
import torch

from workbench.inheritance.hard_concrete import draw, open_probability, settled


def by_formula(log_alpha: float, uniform: float) -> float:
    inside = (math.log(uniform / (1 - uniform)) + log_alpha) / (2 / 3)
    return min(1.0, max(0.0, 1.2 / (1 + math.exp(-inside)) - 0.1))


@pytest.mark.parametrize("log_alpha", [-4.605, -1.0, 0.0, 0.7, 4.605])
@pytest.mark.parametrize("uniform", [0.001, 0.2, 0.5, 0.9, 0.999])
def test_a_draw_is_the_formula(log_alpha, uniform):
    found = draw(torch.tensor(log_alpha, dtype=torch.float64), torch.tensor(uniform, dtype=torch.float64))
    assert float(found) == pytest.approx(by_formula(log_alpha, uniform), abs=1e-12)


@pytest.mark.parametrize("log_alpha", [-3.0, -1.6, 0.0, 2.0])
def test_gates_are_open_as_often_as_their_probability_says(log_alpha):
    uniform = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    share = (draw(torch.tensor(log_alpha, dtype=torch.float64), uniform) != 0).double().mean()
    probability = open_probability(torch.tensor(log_alpha, dtype=torch.float64))
    assert float(share) == pytest.approx(float(probability), abs=1e-5)


def test_the_numbers_of_the_paper():
    assert float(open_probability(torch.tensor(math.log(100)))) == pytest.approx(0.99798, abs=1e-5)
    assert float(open_probability(torch.tensor(-2 / 3 * math.log(11)))) == pytest.approx(0.5)
    assert float(settled(torch.tensor(math.log(100)))) == pytest.approx(1 / (1 + 100**-1.2))
    assert float(settled(torch.tensor(0.0))) == 0.5


def test_the_ends_of_the_noise_give_neither_infinities_nor_nan():
    log_alpha = torch.zeros(2, requires_grad=True)
    gates = draw(log_alpha, torch.tensor([0.0, 1.0]))
    gates.sum().backward()
    assert gates.tolist() == [0.0, 1.0]
    assert log_alpha.grad.tolist() == [0.0, 0.0]
