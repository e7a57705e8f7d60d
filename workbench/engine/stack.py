"""Students of one architecture trained as one: their towers run stacked, and their losses where those are alike.

On a GPU a small model's step is bound by launching kernels; stacked, many models pay for that once. Shape letters: M
members, P any shape of a parameter.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from workbench.embeddings import Batch
from workbench.engine.lessons import Lesson
from workbench.engine.member import Member
from workbench.engine.stacked_losses import StackedLosses
from workbench.losses.objective import Values
from workbench.models.clip import Clip

SCALE = "logit_scale"  # not stacked: the towers do not use it


class Stack:
    """Members whose towers run as one.

    Their parameters become rows of stacked tensors and go on to be what they were: optimised, saved and measured one
    by one. Gradients agree with those of members trained one by one but for the order of summation.

    Args:
        members: two or more that :func:`stackable` puts into one group.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)
        self._both = _BothTowers(members[0].state.student)
        self._parameters = [_stacked_parameters(member.state.student) for member in members]
        self._stacked: dict[str, Tensor] = {}
        for name in self._parameters[0]:
            own = [parameters[name] for parameters in self._parameters]
            rows_MP = torch.stack([parameter.detach() for parameter in own])
            for row_P, parameter in zip(rows_MP, own, strict=True):
                parameter.data = row_P
            self._stacked[name] = rows_MP
        self._losses = StackedLosses(members)

    def backward(self, batch: Batch, lesson: Lesson | None, step: int) -> list[Values]:
        """Accumulate the gradient of each member's objective into its parameters, as ``backward`` does for one."""
        leaves = {name: rows_MP.detach().requires_grad_() for name, rows_MP in self._stacked.items()}
        image_MBD, text_MBD = self._encode(leaves, batch, step)
        total, found = self._losses(image_MBD, text_MBD, lesson, step)
        total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        for name, leaf_MP in leaves.items():
            assert leaf_MP.grad is not None
            for parameters, gradient_P in zip(self._parameters, leaf_MP.grad, strict=True):
                parameters[name].grad = gradient_P
        return found

    def _encode(self, leaves: dict[str, Tensor], batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """Raw embeddings of all members, [M, B, D] each."""
        images_BCHW, text_BL = batch.student_image_BCHW, batch.student_text_BL
        kept = [member.masked(batch, step).kept_BK for member in self.members]
        kept_MBK = None if kept[0] is None else torch.stack([keep_BK for keep_BK in kept if keep_BK is not None])

        def encode(parameters: dict[str, Tensor], keep_BK: Tensor | None) -> tuple[Tensor, Tensor]:
            found: tuple[Tensor, Tensor] = functional_call(self._both, parameters, (images_BCHW, text_BL, keep_BK))
            return found

        in_dims = (dict.fromkeys(leaves, 0), None if kept_MBK is None else 0)
        precision = self.members[0].config.train.precision
        with torch.autocast(images_BCHW.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            found: tuple[Tensor, Tensor] = vmap(encode, in_dims=in_dims)(leaves, kept_MBK)
        return found


class Stacks:
    """The stacks of a cohort, made anew only where members come, go, or change shape."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], Stack] = {}

    def of(self, members: Sequence[Member], step: int) -> Iterator[Stack | Member]:
        """The members at one step: those that can be stacked with another in stacks, the rest one by one."""
        groups: dict[object, list[Member]] = {}
        for member in members:
            groups.setdefault(stackable(member, step) or id(member), []).append(member)
        known = {}
        for group in groups.values():
            if len(group) == 1:
                yield group[0]
                continue
            key = tuple(id(member.state) for member in group)
            known[key] = self._known.get(key) or Stack(group)
            yield known[key]
        self._known = known


def stackable(member: Member, step: int) -> str:
    """What members must have in common to be stacked at a step; empty for one that cannot be.

    Gates act within the towers, frozen towers and batch normalisation have state of their own, micro-batches run the
    towers twice, and inner features leave them by the side.
    """
    state, demands = member.state, member.objective.demands(step)
    if state.gates or state.student.frozen or member.config.train.micro_batch_size or demands.features:
        return ""
    if any(isinstance(module, nn.BatchNorm2d) for module in state.student.modules()):
        return ""
    masking = demands.masking
    if masking and not masking.feeds_all:
        return ""
    return f"{state.student.config} masked by {masking.ratio if masking else 0}"


class _BothTowers(nn.Module):
    """A student as a function of its parameters: pictures and texts to raw embeddings."""

    def __init__(self, student: Clip) -> None:
        super().__init__()
        self.student = student

    def forward(self, image_BCHW: Tensor, text_BL: Tensor, keep_BK: Tensor | None) -> tuple[Tensor, Tensor]:
        return self.student.encode_image(image_BCHW, keep_BK), self.student.encode_text(text_BL)


def _stacked_parameters(student: Clip) -> dict[str, nn.Parameter]:
    """The parameters that are stacked, by their names in :class:`_BothTowers`."""
    return {
        f"student.towers.{name}": parameter for name, parameter in student.towers.named_parameters() if name != SCALE
    }
