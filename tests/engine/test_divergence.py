"""Steps that are not finite are counted and located on the device, and a stated number of them may be skipped."""

import math

import pytest
import torch
from torch import nn

from workbench.engine.divergence import DivergenceWatch

FINE, BAD = torch.tensor(False), torch.tensor(True)


def watch(max_skipped: int = 0) -> DivergenceWatch:
    return DivergenceWatch(("clip", "fd"), max_skipped, torch.device("cpu"))


def test_the_first_bad_step_and_its_term_are_remembered():
    found = watch()
    found.note(1, FINE, torch.tensor([1.0, 2.0]))
    assert found.first() is None
    found.note(2, BAD, torch.tensor([1.0, math.inf]))
    found.note(3, BAD, torch.tensor([math.nan, 2.0]))
    assert (found.first().step, found.first().term) == (2, "fd")


def test_an_infinite_gradient_is_traced_to_its_parameter_and_pairs():
    module = nn.Linear(2, 1)
    module.weight.grad, module.bias.grad = torch.zeros(1, 2), torch.tensor([math.inf])
    found = watch()
    found.look(module, torch.tensor(math.inf), ("a", "b", "c", "d"))
    found.note(1, BAD, torch.tensor([1.0, 2.0]))
    assert str(found.first()) == (
        "gradient norm was not finite at step 1 (first in the gradient of bias; pairs a, b, c, ...)"
    )


@pytest.mark.parametrize("num_bad", [0, 1, 2, 3, 4])
def test_so_many_may_be_skipped_and_not_one_more(num_bad):
    found = watch(max_skipped=3)
    for step in range(1, num_bad + 1):
        found.note(step, BAD, torch.tensor([math.nan, 1.0]))
    assert (found.first() is None) == (num_bad <= 3)
    if num_bad in (1, 2, 3):
        assert found.news().startswith(f"{num_bad} step{'s' * (num_bad > 1)} skipped of 3 that may be: clip was not")
        assert found.news() == ""
    else:
        assert found.news() == ""
