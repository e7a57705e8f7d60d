"""Two implementations that share no arithmetic should agree, and the straightforward one with the release's figures."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from workbench.bench.losses import CASES, LossMeasurement
from workbench.bench.references import PRODUCTS, STRAIGHTFORWARD, floor
from workbench.embeddings import Embeddings
from workbench.losses import LOSSES
from workbench.losses.base import Loss, Widths
from workbench.losses.comparison import Comparison
from workbench.losses.learned import LearnedParts
from workbench.losses.registry import make_loss

CPU = torch.device("cpu")
NOT_COMPARED = {"mfd", "intermediate"}  # they hold no B x B matrix; mfd is fd on masked images


def flops(work) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def test_every_loss_that_compares_pairs_is_counted() -> None:
    assert PRODUCTS["released"].keys() == PRODUCTS["paper"].keys() == LOSSES.keys() - NOT_COMPARED


@pytest.mark.parametrize("name", [name for name in CASES if name != "fd"])
def test_the_dense_form_does_no_fewer_products_and_hardly_more(name: str) -> None:
    """Counted by torch, so that a wrong table shows: too high a floor would flatter us."""
    case, size, width = CASES[name], 32, 16
    ours = flops(LossMeasurement(width, CPU, 0).contenders(case, size)["dense"])
    alone = floor(case.losses, case.convention, size, width, CPU)
    assert alone is not None
    assert 1 <= ours / flops(alone) <= 1.4


def test_what_losses_share_is_counted_once() -> None:
    def together(*losses: str) -> int:
        work = floor(losses, "released", 8, 4, CPU)
        assert work is not None
        return flops(work)

    assert together("clip", "crd") == together("crd") < together("clip") + together("crd")
    assert together("gd", "clip") == together("gd")
    assert together("gd") == 20 * 2 * 8 * 8 * 4


def test_a_loss_row_by_row_has_no_products() -> None:
    assert floor(("fd",), "released", 8, 4, CPU) is None


def unit_BD(seed: int, num_pairs: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(num_pairs, width, generator=generator, dtype=torch.float64), dim=1)


def compare(
    loss: Loss, chunk_size: int = 0, num_pairs: int = 7, width: int = 5
) -> tuple[Comparison, dict[str, Tensor]]:
    """A comparison at one width, and all that the loss can move, by name."""
    torch.manual_seed(0)
    learnt = LearnedParts({loss.name: loss}, Widths(width, width)).double()
    image_BD, text_BD = (unit_BD(seed, num_pairs, width).requires_grad_() for seed in (1, 2))
    scale = torch.tensor(14.3, dtype=torch.float64, requires_grad=True)
    student = Embeddings(image_BD, text_BD, scale)
    teacher_scale = torch.tensor(50.0, dtype=torch.float64)
    teacher = Embeddings(unit_BD(3, num_pairs, width), unit_BD(4, num_pairs, width), teacher_scale)
    moved = {"image": image_BD, "text": text_BD, "scale": scale, **dict(learnt.named_parameters())}
    return Comparison(student, teacher, student, learnt.parts, chunk_size=chunk_size), moved


def gradients(function: Callable[[Comparison], Tensor], loss: Loss, chunk_size: int = 0) -> dict[str, Tensor | None]:
    """The value, and the gradients of what is moved."""
    comparison, moved = compare(loss, chunk_size)
    value = function(comparison)
    value.backward()
    return {"value": value.detach()} | {name: tensor.grad for name, tensor in moved.items()}


@pytest.mark.parametrize("chunk_size", [0, 3])
@pytest.mark.parametrize("name", sorted(STRAIGHTFORWARD))
def test_ours_is_the_straightforward_loss_in_value_and_gradients(name: str, chunk_size: int) -> None:
    loss = make_loss(name, convention="released")
    expected = gradients(STRAIGHTFORWARD[name], loss)
    found = gradients(loss, loss, chunk_size)
    assert found["image"] is not None
    for what, tensor in expected.items():
        nothing = torch.zeros(())  # one form may leave out a scale that the other multiplies by zero
        ours, theirs = (nothing if one is None else one for one in (found[what], tensor))
        assert float((ours - theirs).norm()) <= 1e-9 * float(theirs.norm()) + 1e-12, what


def test_released_gd_has_the_size_measured_on_the_release() -> None:
    """On unrelated embeddings at B = 64, D = 512, scales 14.3 and 50, and its share at λ = 1e8 (PAPERS.md)."""
    loss = make_loss("gd", convention="released")
    comparison, _ = compare(loss, num_pairs=64, width=512)
    assert STRAIGHTFORWARD["gd"](comparison).item() == pytest.approx(9.9e-9, rel=0.1)
    comparison, _ = compare(loss, num_pairs=256, width=64)
    assert 1e8 * STRAIGHTFORWARD["gd"](comparison).item() == pytest.approx(0.505, rel=0.1)


def test_released_fd_has_the_size_of_the_papers_table() -> None:
    comparison, _ = compare(make_loss("fd", convention="released"), num_pairs=256, width=512)
    assert 2000 * STRAIGHTFORWARD["fd"](comparison).item() == pytest.approx(15.9, abs=0.5)
