import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from workbench.bench.floor import PRODUCTS, floor
from workbench.bench.losses import CASES, LossBench
from workbench.losses import LOSSES

CPU = torch.device("cpu")
NOT_COMPARED = {"mfd", "intermediate"}  # they hold no B x B matrix; mfd is fd on masked pictures


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
    ours = flops(LossBench(width, CPU, 0).contenders(case, size)["dense"])
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
