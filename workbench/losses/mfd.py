"""Masked feature distillation: the teacher sees the full image, the student only some of its patches."""

from typing import ClassVar

from workbench.errors import unknown
from workbench.losses.base import Convention, Masking
from workbench.losses.comparison import Side
from workbench.losses.fd import FdLoss

FEEDS = ("all", "mfd")


class MfdLoss(FdLoss):
    """Feature distillation with a share of the student's image patches removed before its transformer.

    Unit, zero and weights as in :class:`~workbench.losses.fd.FdLoss`. The released code computes the masked features
    and then overwrites them with those of the full image, so its mask ratio has no effect. Here it has one, in both
    conventions. A convolutional student has no patches to drop: blocks of its pixels are blanked, at no saving in
    compute.

    Args:
        mask_ratio: share of the patches that is removed, sampled per image and step. 0 is plain FD.
        mask_feeds: "all" uses the masked embedding in every loss, as the released code intends, and makes a step
            cheaper; "mfd" uses it in this loss only, at the cost of a second forward.
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
            raise ValueError(f"mask_ratio is a share of the patches, at least 0 and below 1 (got {mask_ratio!r})")
        if mask_feeds not in FEEDS:
            raise unknown("mask_feeds", str(mask_feeds), FEEDS)
        self.masking = Masking(float(mask_ratio), mask_feeds == "all") if mask_ratio else None
