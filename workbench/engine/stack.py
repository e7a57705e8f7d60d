"""Students of one architecture trained as one: their towers run stacked, and their losses where those are alike.

On a GPU a small model's step is bound by launching kernels; stacked, many models pay for that once. Shape letters: M
members, P any shape of a parameter."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from workbench.embeddings import Batch
from workbench.engine.member import Member
from workbench.engine.step import Encoded, compare
from workbench.engine.teacher_outputs import TeacherOutputs
from workbench.losses.objective import Values
from workbench.models.clip import Clip

# The losses of members whose towers ran stacked: in one go for members whose losses differ in their weights alone.
#
# Shape letters: M members, K losses.


class StackedLosses:
    """The losses of members whose raw embeddings come stacked.

    What members have in common is found out once, for as long as the same losses are on.

    Args:
        members: of one stack, in its order.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = tuple(members)
        self._own = [_own_parameters(member) for member in members]
        self._on: list[tuple[str, ...]] = []  # each member's losses, when the groups were made
        self._groups: list[list[int]] = []

    def __call__(
        self, image_MBD: Tensor, text_MBD: Tensor, teacher_outputs: TeacherOutputs | None, step: int
    ) -> tuple[Tensor, list[Values]]:
        """The sum of the members' objectives at ``step``, to differentiate, and what each was.

        Gradients reach the parameters of the members' losses themselves.
        """
        on = [tuple(member.objective.weights_at(step)) for member in self._members]
        if on != self._on:
            self._on, self._groups = on, self._alike(on)
        found: dict[int, Values] = {}
        totals = []
        for places in self._groups:
            if len(places) == 1:
                (place,) = places
                values = [
                    self._alone(place, Encoded(image_MBD[place], text_MBD[place], None, {}), teacher_outputs, step)
                ]
                total = values[0].total
            else:
                image, text = (torch.stack([of_MBD[place] for place in places]) for of_MBD in (image_MBD, text_MBD))
                total, values = self._in_one_go(places, image, text, teacher_outputs, step)
            totals.append(total)
            found |= dict(zip(places, values, strict=True))
        return torch.stack(totals).sum(), [found[place] for place in range(len(self._members))]

    def _alike(self, on: Sequence[tuple[str, ...]]) -> list[list[int]]:
        """The places of members whose losses can be computed in one go; others are by themselves.

        A loss of one's own may do what cannot be stacked, such as looking at a number; so may one in blocks of rows.
        """
        groups: dict[object, list[int]] = {}
        for place, (member, names) in enumerate(zip(self._members, on, strict=True)):
            configs = {name: member.config.loss[name] for name in names}
            is_separate = not configs or member.objective.chunk_size or any(config.file for config in configs.values())
            settings = {name: config.options() for name, config in configs.items()}
            key = place if is_separate else f"{settings} learning {sorted(self._own[place])}"
            groups.setdefault(key, []).append(place)
        return list(groups.values())

    def _alone(self, place: int, encoded: Encoded, teacher_outputs: TeacherOutputs | None, step: int) -> Values:
        member = self._members[place]
        return member.objective(compare(member.state, encoded, teacher_outputs, member.objective, step), step)

    def _in_one_go(
        self,
        places: Sequence[int],
        image_MBD: Tensor,
        text_MBD: Tensor,
        teacher_outputs: TeacherOutputs | None,
        step: int,
    ) -> tuple[Tensor, list[Values]]:
        own = [self._own[place] for place in places]
        stacked = {name: torch.stack([parameters[name] for parameters in own]) for name in own[0]}
        losses = _Losses(self._members[places[0]], teacher_outputs, step)

        def values_of(parameters: dict[str, Tensor], image_BD: Tensor, text_BD: Tensor) -> Tensor:
            values_K: Tensor = functional_call(losses, parameters, (image_BD, text_BD))
            return values_K

        values_MK = vmap(values_of)(stacked, image_MBD, text_MBD)
        weights = [self._members[place].objective.weights_at(step) for place in places]
        weights_MK = torch.tensor([list(one.values()) for one in weights]).to(values_MK.device, non_blocking=True)
        totals_M = (weights_MK * values_MK).sum(1)
        return totals_M.sum(), [
            Values(total, dict(zip(names, values_K, strict=True)))
            for names, total, values_K in zip(weights, totals_M.detach(), values_MK.detach(), strict=True)
        ]


def _own_parameters(member: Member) -> dict[str, nn.Parameter]:
    """What losses learn, and the student's scale, by their names in :class:`_Losses`; what is frozen counts too."""
    return {
        f"state.{name}": parameter
        for name, parameter in member.state.named_parameters()
        if name.startswith("learnt.") or name == "student.towers.logit_scale"
    }


class _Losses(nn.Module):
    """A member's losses as a function of their parameters: raw embeddings [B, D] to values [K], unweighted."""

    def __init__(self, member: Member, teacher_outputs: TeacherOutputs | None, step: int) -> None:
        super().__init__()
        self.state = member.state
        self._objective, self._teacher_outputs, self._step = member.objective, teacher_outputs, step

    def forward(self, image_BD: Tensor, text_BD: Tensor) -> Tensor:
        encoded = Encoded(image_BD, text_BD, None, {})
        comparison = compare(self.state, encoded, self._teacher_outputs, self._objective, self._step)
        return torch.stack(list(self._objective.unweighted(comparison, self._step).values()))


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

    def backward(self, batch: Batch, teacher_outputs: TeacherOutputs | None, step: int) -> list[Values]:
        """Accumulate the gradient of each member's objective into its parameters, as ``backward`` does for one."""
        leaves = {name: rows_MP.detach().requires_grad_() for name, rows_MP in self._stacked.items()}
        image_MBD, text_MBD = self._encode(leaves, batch, step)
        total, found = self._losses(image_MBD, text_MBD, teacher_outputs, step)
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
    state, loss_inputs = member.state, member.objective.loss_inputs(step)
    if state.gates or state.student.frozen or member.config.train.micro_batch_size or loss_inputs.features:
        return ""
    if any(isinstance(module, nn.BatchNorm2d) for module in state.student.modules()):
        return ""
    masking = loss_inputs.masking
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
