"""Students of one architecture trained as one: stacked towers, and stacked losses where these have equal settings.

On a GPU the step of a small model is bound by kernel launches; stacked models share them. Shape letters: M members,
P any shape of a parameter, K losses."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from workbench.embeddings import Batch, onto
from workbench.engine.device import has_batch_norm
from workbench.engine.member import Member, not_finite
from workbench.engine.step import Encoded, compare
from workbench.engine.teacher_outputs import TeacherOutputs
from workbench.losses.objective import Values
from workbench.models.clip import Clip
from workbench.models.precision import autocast

SCALARS = ("logit_scale", "logit_bias")  # not stacked: losses use them, towers do not


class StackedLosses:
    """The losses of members, from their stacked raw embeddings; vmapped over members that differ in weights only.

    Members are grouped when the losses that are on change, not at every step.

    Args:
        members: those of one stack, in its order.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = tuple(members)
        self._own = [_own_parameters(member) for member in members]
        self._on: list[tuple[str, ...]] = []  # the losses of each member when it was grouped
        self._groups: list[list[int]] = []

    def __call__(
        self, image_MBD: Tensor, text_MBD: Tensor, teacher_outputs: TeacherOutputs | None, step: int
    ) -> tuple[Tensor, list[Values]]:
        """The sum of the members' objectives at ``step``, scaled, to differentiate, and the values of each member."""
        on = [tuple(member.objective.weights_at(step)) for member in self._members]
        if on != self._on:
            self._on, self._groups = on, self._grouped(on, step)
        by_index: dict[int, Values] = {}
        totals = []
        for indices in self._groups:
            if len(indices) == 1:
                (index,) = indices
                values = [
                    self._alone(index, Encoded(image_MBD[index], text_MBD[index], None, {}), teacher_outputs, step)
                ]
                total = self._members[index].scaled(values[0].total)
            else:
                image, text = (torch.stack([of_MBD[index] for index in indices]) for of_MBD in (image_MBD, text_MBD))
                total, values = self._vmapped(indices, image, text, teacher_outputs, step)
            totals.append(total)
            by_index |= dict(zip(indices, values, strict=True))
        return torch.stack(totals).sum(), [by_index[index] for index in range(len(self._members))]

    def _grouped(self, on: Sequence[tuple[str, ...]], step: int) -> list[list[int]]:
        """Indices of members, grouped by equal losses; a member whose losses cannot be vmapped is a group of one."""
        # Under vmap no code may branch on a value, as a user's loss (``file``) or one in blocks might.
        groups: dict[object, list[int]] = {}
        for index, (member, names) in enumerate(zip(self._members, on, strict=True)):
            configs = {name: member.config.loss[name] for name in names}
            objective = member.objective
            is_separate = not configs or objective.chunk_size or objective.loss_inputs(step).candidates
            is_separate = is_separate or any(config.file for config in configs.values())
            settings = {name: config.options() for name, config in configs.items()}
            key = index if is_separate else f"{settings} learning {sorted(self._own[index])}"
            groups.setdefault(key, []).append(index)
        return list(groups.values())

    def _alone(self, index: int, encoded: Encoded, teacher_outputs: TeacherOutputs | None, step: int) -> Values:
        member = self._members[index]
        return member.objective(compare(member.state, encoded, teacher_outputs, member.objective, step), step)

    def _vmapped(
        self,
        indices: Sequence[int],
        image_MBD: Tensor,
        text_MBD: Tensor,
        teacher_outputs: TeacherOutputs | None,
        step: int,
    ) -> tuple[Tensor, list[Values]]:
        own = [self._own[index] for index in indices]
        stacked = {name: torch.stack([parameters[name] for parameters in own]) for name in own[0]}
        losses = _Losses(self._members[indices[0]], teacher_outputs, step)

        def values_of(parameters: dict[str, Tensor], image_BD: Tensor, text_BD: Tensor) -> Tensor:
            values_K: Tensor = functional_call(losses, parameters, (image_BD, text_BD))
            return values_K

        values_MK = vmap(values_of)(stacked, image_MBD, text_MBD)
        # Members differ in weights only, so the weighting happens after vmap.
        weights = [self._members[index].objective.weights_at(step) for index in indices]
        weights_MK = onto(values_MK.device, torch.tensor([list(by_name.values()) for by_name in weights]))
        totals_M = (weights_MK * values_MK).sum(1)
        scaled = [self._members[index].scaled(total) for index, total in zip(indices, totals_M, strict=True)]
        # Without loss scales one sum, not one operator for each member.
        total = torch.stack(scaled).sum() if self._members[indices[0]].loss_scale else totals_M.sum()
        return total, [
            Values(total, dict(zip(names, values_K, strict=True)))
            for names, total, values_K in zip(weights, totals_M.detach(), values_MK.detach(), strict=True)
        ]


def _own_parameters(member: Member) -> dict[str, nn.Parameter]:
    """Learned parts of the losses, scale and bias of the student, frozen ones too, by names in :class:`_Losses`."""
    return {
        f"state.{name}": parameter
        for name, parameter in member.state.named_parameters()
        if name.startswith("learnt.") or name.removeprefix("student.towers.") in SCALARS
    }


class _Losses(nn.Module):
    """The losses of a member as a module: raw embeddings [B, D] to unweighted values [K]."""

    def __init__(self, member: Member, teacher_outputs: TeacherOutputs | None, step: int) -> None:
        super().__init__()
        self.state = member.state
        self._objective, self._teacher_outputs, self._step = member.objective, teacher_outputs, step

    def forward(self, image_BD: Tensor, text_BD: Tensor) -> Tensor:
        encoded = Encoded(image_BD, text_BD, None, {})
        comparison = compare(self.state, encoded, self._teacher_outputs, self._objective, self._step)
        return torch.stack(list(self._objective.unweighted(comparison, self._step).values()))


class Stack:
    """Members whose towers run as one, vmapped over stacked parameters.

    The parameters of the members become rows of the stacked tensors, so optimizers, checkpoints and evaluation work as
    before. Gradients equal those of members trained one by one, up to the order of summation.

    Args:
        members: two or more for which :func:`stackable` is equal.
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
                parameter.data = row_P  # a view: the optimizer of the member updates the stacked tensor
            self._stacked[name] = rows_MP
        self._losses = StackedLosses(members)

    def backward(self, batch: Batch, teacher_outputs: TeacherOutputs | None, step: int) -> list[Values]:
        """Student forward, losses and backward of all members; the gradients are in the parameters' ``.grad``."""
        for member in self.members:
            member.prepare_step(step)
        # Leaves share the memory of the stacked parameters; their gradients are handed to the members row by row.
        leaves = {name: rows_MP.detach().requires_grad_() for name, rows_MP in self._stacked.items()}
        image_MBD, text_MBD = self._encode(leaves, batch, step)
        total, values = self._losses(image_MBD, text_MBD, teacher_outputs, step)
        total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        for name, leaf_MP in leaves.items():
            assert leaf_MP.grad is not None
            for parameters, gradient_P in zip(self._parameters, leaf_MP.grad, strict=True):
                parameters[name].grad = gradient_P
        return values

    def update(self, values: list[Values], batch: Batch, step: int) -> None:
        """Clip each member's gradients and take its optimizer step."""
        norms_M = torch.stack([member.gradient_norm(step) for member in self.members])
        # For all members at once: one by one, these are a third of what an update launches.
        is_bad_M = not_finite(norms_M, torch.stack([own.total.detach() for own in values]))
        for member, own, norm, is_bad in zip(self.members, values, norms_M, is_bad_M, strict=True):
            member.apply(own, norm, is_bad, batch, step)

    def _encode(self, leaves: dict[str, Tensor], batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """Raw image and text embeddings of all members, [M, B, D] each."""
        images_BCHW, text_BL = batch.student_image_BCHW, batch.student_text_BL
        kept = [member.masked(batch, step).kept_BK for member in self.members]
        kept_MBK = None if kept[0] is None else torch.stack([keep_BK for keep_BK in kept if keep_BK is not None])

        def encode(parameters: dict[str, Tensor], keep_BK: Tensor | None) -> tuple[Tensor, Tensor]:
            raw: tuple[Tensor, Tensor] = functional_call(self._both, parameters, (images_BCHW, text_BL, keep_BK))
            return raw

        in_dims = (dict.fromkeys(leaves, 0), None if kept_MBK is None else 0)
        precision = self.members[0].config.train.precision
        with autocast(images_BCHW.device, precision):
            stacked: tuple[Tensor, Tensor] = vmap(encode, in_dims=in_dims)(leaves, kept_MBK)
        return stacked


class Stacks:
    """The stacks of a cohort, rebuilt only when members end or change shape."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], Stack] = {}

    def of(self, members: Sequence[Member], step: int) -> list[Stack | Member]:
        """The members at one step: those that stack with another as stacks, the others one by one."""
        alike: dict[object, list[Member]] = {}
        for member in members:
            alike.setdefault(stackable(member, step) or id(member), []).append(member)
        groups: list[Stack | Member] = []
        known = {}
        for group in alike.values():
            if len(group) == 1:
                groups += group
                continue
            key = tuple(id(member.state) for member in group)  # a new phase has a new state
            known[key] = self._known.get(key) or Stack(group)
            groups.append(known[key])
        self._known = known
        return groups


def stackable(member: Member, step: int) -> str:
    """A key that is equal for members that can be stacked at ``step``; empty for one that cannot."""
    # Not supported under vmap: gates inside the towers, frozen towers, batch-norm statistics, micro-batches, which run
    # the towers twice, losses in TF32, which have a backward of their own, and intermediate features, read by hooks.
    if member.config.curation.method != "off":  # every member chooses pairs of its own
        return ""
    state, loss_inputs = member.state, member.objective.loss_inputs(step)
    if member.objective.in_tf32:
        return ""
    if state.gates or state.student.frozen or member.config.train.micro_batch_size or loss_inputs.features:
        return ""
    masking = loss_inputs.masking
    if has_batch_norm(state.student) or (masking and not masking.feeds_all):
        return ""
    return f"{state.student.config} masked by {masking.ratio if masking else 0}"


class _BothTowers(nn.Module):
    """Both towers as one module: images and texts to raw embeddings."""

    def __init__(self, student: Clip) -> None:
        super().__init__()
        self.student = student

    def forward(self, image_BCHW: Tensor, text_BL: Tensor, keep_BK: Tensor | None) -> tuple[Tensor, Tensor]:
        return self.student.encode_image(image_BCHW, keep_BK), self.student.encode_text(text_BL)


def _stacked_parameters(student: Clip) -> dict[str, nn.Parameter]:
    """The stacked parameters of a student, by their names in :class:`_BothTowers`."""
    return {
        f"student.towers.{name}": parameter
        for name, parameter in student.towers.named_parameters()
        if name not in SCALARS
    }
