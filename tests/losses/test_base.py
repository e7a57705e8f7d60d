"""Properties of every loss."""

from dataclasses import replace
from typing import get_args

import pytest
import torch

from workbench.embeddings import Embeddings
from workbench.losses import LOSSES, build_loss
from workbench.losses.base import Convention, Loss, numbered
from workbench.losses.comparison import Features

NAMES = ["clip", "crd", "fd", "mfd", "gd", "icl", "afd", "affinity", "cross_modal", "single_modal", "intermediate"]
NAMES += ["sigmoid", "vrd", "xrd", "dark"]
BOTH = [(name, convention) for name in NAMES for convention in get_args(Convention)]
ZERO_WHEN_EQUAL = ["crd", "fd", "mfd", "gd"]
MOVING_TARGETS = ["vrd", "xrd"]  # constant in the gradient but not in finite differences; see their own tests


def test_these_are_the_losses() -> None:
    assert sorted(LOSSES) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_documents_itself(name: str) -> None:
    loss = LOSSES[name]
    assert loss.name == name
    assert all((loss.title, loss.paper, loss.equation, loss.departure))
    assert loss.__doc__ not in (None, Loss.__doc__)
    assert set(loss.published_weight) <= set(get_args(Convention))


@pytest.mark.parametrize("name", NAMES)
def test_the_stated_departure_is_there(arguments, name: str) -> None:
    given = arguments(name)
    paper, released = (build_loss(name, convention=convention)(*given).item() for convention in get_args(Convention))
    assert (paper == released) == (LOSSES[name].departure == "none")


def test_a_convention_that_is_neither_is_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'released'"):
        build_loss("clip", convention="release")


@pytest.mark.parametrize(("name", "convention"), BOTH)
def test_the_order_of_the_pairs_does_not_matter(arguments, name: str, convention: str) -> None:
    student, teacher, features = arguments(name)
    order = torch.tensor([3, 1, 5, 0, 2, 4])

    def shuffled(side: Embeddings) -> Embeddings:
        return replace(side, image_BD=side.image_BD[order], text_BD=side.text_BD[order])

    loss = build_loss(name, convention=convention)
    turned = features and Features(*(tuple(x[order] for x in side) for side in (features.student, features.teacher)))
    found = loss(shuffled(student), shuffled(teacher), turned)
    assert found.item() == pytest.approx(loss(student, teacher, features).item(), rel=1e-10)


@pytest.mark.parametrize(("name", "convention"), [pair for pair in BOTH if pair[0] not in MOVING_TARGETS])
def test_its_gradients_are_those_of_finite_differences(arguments, leaves, name: str, convention: str) -> None:
    loss, given = build_loss(name, convention=convention), arguments(name, num_pairs=4)
    size = loss(*given).item()  # the released gd is of the order of 1e-7: too small to be measured as it is

    def relative(*_: torch.Tensor) -> torch.Tensor:
        return loss(*given) / size

    assert torch.autograd.gradcheck(relative, tuple(leaves(loss, *given).values()))


@pytest.mark.parametrize(("name", "convention"), [pair for pair in BOTH if pair[0] in ZERO_WHEN_EQUAL])
def test_a_student_equal_to_the_teacher_has_zero_loss_and_gradient(embeddings, name, convention: str) -> None:
    student, teacher = embeddings(1), embeddings(1)
    loss = build_loss(name, convention=convention)(student, teacher)
    gradients = torch.autograd.grad(loss, (student.image_BD, student.text_BD, student.scale), allow_unused=True)
    assert loss.item() == pytest.approx(0, abs=1e-14)
    assert all(gradient.abs().max() < 1e-14 for gradient in gradients if gradient is not None)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("fd", "mfd", "gd", "intermediate", "sigmoid")])
def test_a_single_pair_has_zero_loss(arguments, name: str) -> None:
    # A softmax over one candidate is 1, whatever the embeddings: its logarithm, and every cross-entropy, is 0.
    student, teacher, _ = arguments(name, num_pairs=1)
    assert build_loss(name)(student, teacher).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("clip", "intermediate", "sigmoid")])
def test_a_missing_teacher_is_refused_with_the_remedy(arguments, name: str) -> None:
    student, _, _ = arguments(name)
    assert LOSSES[name].needs_teacher
    with pytest.raises(ValueError, match=r"teacher\.model"):
        build_loss(name)(student)


def test_blocks_are_numbered_from_both_ends() -> None:
    assert numbered((8, 16, 32)) == {0: 8, 1: 16, 2: 32, -3: 8, -2: 16, -1: 32}
