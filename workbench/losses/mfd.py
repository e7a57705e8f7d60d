"""Masked feature distillation: the teacher sees the whole picture, the student a part of it."""

from typing import ClassVar

from workbench.errors import unknown
from workbench.losses.base import Convention, Masking
from workbench.losses.comparison import Side
from workbench.losses.fd import FdLoss

FEEDS = ("all", "mfd")


class MfdLoss(FdLoss):
    """Feature distillation with a share of the student's picture patches removed before its transformer.

    Unit, zero and weights as :class:`~workbench.losses.fd.FdLoss`. The released code computes the masked features and
    then overwrites them with the whole picture's, so its mask ratio changes nothing; here it does, in both conventions.
    A convolutional student has no patches to drop: blocks of its pixels are blanked, at full cost.

    Args:
        mask_ratio: share of the patches that is removed, drawn anew for every picture and step. With 0 this is FD.
        mask_feeds: "all": the masked embedding is the student's in every loss, as the release intends, and a step
            costs less; "mfd": in this loss alone, for a second forward.
    """

    name = "mfd"
    title = "masked feature distillation"
    paper = "CLIP-KD, section 3.2.3"
    equation = "mean_k (‖vᵀ−vˢ(masked)‖² + ‖sᵀ−sˢ‖²)"
    departure = "as fd; and the release's mask never reaches the loss"
    side: ClassVar[Side] = "masked"

    def __init__(self, convention: Convention = "paper", mask_ratio: float = 0.25, mask_feeds: str = "all") -> None:
        super().__init__(convention)
        if not isinstance(mask_ratio, int | float) or not 0 <= mask_ratio < 1:
            raise ValueError(f"mask_ratio is a share of the patches, from 0 to below 1 (got {mask_ratio!r})")
        if mask_feeds not in FEEDS:
            raise unknown("mask_feeds", str(mask_feeds), FEEDS)
        self.masking = Masking(float(mask_ratio), mask_feeds == "all") if mask_ratio else None
