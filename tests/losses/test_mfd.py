import pytest

from workbench.losses import LOSSES, build_loss
from workbench.losses.comparison import Comparison


@pytest.mark.parametrize("convention", ["paper", "released"])
def test_it_is_fd_of_the_masked_student(embeddings, brute_force, convention: str) -> None:
    student, teacher, masked = embeddings(1), embeddings(2), embeddings(3)
    expected = brute_force.fd(masked, teacher) / (5 if convention == "released" else 1)
    mfd = LOSSES["mfd"](convention)
    assert mfd(Comparison(student, teacher, student, masked=masked)).item() == pytest.approx(expected, rel=1e-12)


def test_without_a_masked_embedding_of_its_own_it_sees_what_every_loss_sees(embeddings) -> None:
    student, teacher = embeddings(1), embeddings(2)
    assert build_loss("mfd")(student, teacher).item() == build_loss("fd")(student, teacher).item()


def test_only_this_loss_sees_the_masked_embedding(embeddings) -> None:
    student, teacher, masked = embeddings(1), embeddings(2), embeddings(3)
    both, alone = Comparison(student, teacher, student, masked=masked), Comparison(student, teacher, student)
    for name in ("clip", "crd", "fd", "gd", "affinity", "cross_modal", "single_modal"):
        assert LOSSES[name]()(both).item() == LOSSES[name]()(alone).item()


def test_its_mask_is_an_option_and_ratio_0_is_none() -> None:
    assert LOSSES["mfd"]().masking.feeds_all
    assert LOSSES["mfd"](mask_ratio=0.75).masking.ratio == 0.75
    assert not LOSSES["mfd"](mask_feeds="mfd").masking.feeds_all
    assert LOSSES["mfd"](mask_ratio=0).masking is None


@pytest.mark.parametrize("ratio", [1, -0.1, "half", float("nan"), True])
def test_a_ratio_that_is_none_is_refused(ratio: object) -> None:
    with pytest.raises(ValueError, match="mask_ratio is a share"):
        build_loss("mfd", mask_ratio=ratio)


def test_who_is_fed_is_all_or_itself() -> None:
    with pytest.raises(ValueError, match="choose one of: all, mfd"):
        build_loss("mfd", mask_feeds="every")


@pytest.mark.parametrize("width", [64, 512])
def test_its_published_weight_travels_as_that_of_fd(width: int) -> None:
    assert LOSSES["mfd"]("released").translation(64, width) == width / 512
    assert LOSSES["mfd"]("paper").translation(64, width) == 1
