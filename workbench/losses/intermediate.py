"""Intermediate-feature distillation: match features of chosen blocks of the image towers."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.embeddings import FeatureKey
from workbench.errors import unknown
from workbench.losses.base import Convention, FeatureRequest, Loss, Widths
from workbench.losses.comparison import Comparison

FORMS = {"tokens": "map", "pooled": "pooled"}


class IntermediateLoss(Loss):
    """Mean squared error between features of image-tower blocks, the student's mapped linearly to the teacher's width.

    Averaged over pairs, positions, channels and block pairs. Unit: squared teacher features, so its size depends on the
    teacher; it is 0 when the mapped features are the teacher's. ViTs and ResNets can be combined: where the grids
    differ, the finer one is average-pooled to the coarser. The paper reports results without a formula or weight: this
    is our reading, and there is no released code to differ from.

    Args:
        student_blocks, teacher_blocks: blocks to match, pairwise in this order; negative numbers count from the end.
            The blocks of a ViT are its transformer blocks, those of a ResNet its four stages.
        form: "tokens" compares position by position, "pooled" the class token or the mean over positions.
    """

    name = "intermediate"
    title = "intermediate-feature distillation"
    paper = "CLIP-KD, appendix, figure 2, our reading"
    needs_projection = False
    equation = "mean over matched blocks of mean (W fˢ + b − fᵀ)²"

    def __init__(
        self,
        convention: Convention = "paper",
        student_blocks: tuple[int, ...] = (-1,),
        teacher_blocks: tuple[int, ...] = (-1,),
        form: str = "tokens",
    ) -> None:
        super().__init__(convention)
        if form not in FORMS:
            raise unknown("form", str(form), FORMS)
        student, teacher = _numbers("student_blocks", student_blocks), _numbers("teacher_blocks", teacher_blocks)
        if len(student) != len(teacher):
            raise ValueError(
                f"student_blocks and teacher_blocks are matched one by one (got {len(student)} and {len(teacher)})"
            )
        self.features: FeatureRequest = FeatureRequest(
            tuple(FeatureKey(block, FORMS[form]) for block in student),
            tuple(FeatureKey(block, FORMS[form]) for block in teacher),
        )

    def learned(self, widths: Widths) -> nn.ModuleList:
        inputs = [_channels("student", widths.student_blocks, key.block) for key in self.features.student]
        outputs = [_channels("teacher", widths.teacher_blocks, key.block) for key in self.features.teacher]
        return nn.ModuleList(nn.Linear(*shape) for shape in zip(inputs, outputs, strict=True))

    def __call__(self, comparison: Comparison) -> Tensor:
        maps, found = comparison.parts[self.name], comparison.features[self.name]
        assert isinstance(maps, nn.ModuleList)
        losses = []
        for linear, *pair in zip(maps, found.student, found.teacher, strict=True):
            student, teacher = _same_grid(*pair)
            losses.append(F.mse_loss(linear(student), teacher))
        return torch.stack(losses).mean()


def _same_grid(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Feature maps [B, C, H, W] as tokens [B, T, C] on the coarser of the two grids; pooled features unchanged."""
    if student.ndim == 2:
        return student, teacher
    # The coarser of the two: averaging loses detail, but invents none as interpolation would.
    grid = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    student, teacher = (F.adaptive_avg_pool2d(features, grid).flatten(2).mT for features in (student, teacher))
    return student, teacher


def _numbers(setting: str, blocks: object) -> tuple[int, ...]:
    if not isinstance(blocks, list | tuple) or not blocks or any(type(block) is not int for block in blocks):
        raise ValueError(f"{setting} is a list of block numbers, such as [2, -1] (got {blocks!r})")
    return tuple(blocks)


def _channels(model: str, widths: Mapping[int, int], block: int) -> int:
    if block not in widths:
        known = f"{min(widths)} to {max(widths)}" if widths else "none"
        raise ValueError(f"loss.intermediate: the {model}'s image tower has no block {block}; its blocks: {known}")
    return widths[block]
