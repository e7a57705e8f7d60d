"""The losses of members whose towers ran stacked: in one go for members whose losses differ in their weights alone.

Shape letters: M members, K losses.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from workbench.engine.backward import Encoded, compare
from workbench.engine.lessons import Lesson
from workbench.engine.member import Member
from workbench.losses.objective import Values


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
        self, image_MBD: Tensor, text_MBD: Tensor, lesson: Lesson | None, step: int
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
                values = [self._alone(place, Encoded(image_MBD[place], text_MBD[place], None, {}), lesson, step)]
                total = values[0].total
            else:
                image, text = (torch.stack([of_MBD[place] for place in places]) for of_MBD in (image_MBD, text_MBD))
                total, values = self._in_one_go(places, image, text, lesson, step)
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
            is_apart = not configs or member.objective.chunk_size or any(config.file for config in configs.values())
            settings = {name: config.options() for name, config in configs.items()}
            key = place if is_apart else f"{settings} learning {sorted(self._own[place])}"
            groups.setdefault(key, []).append(place)
        return list(groups.values())

    def _alone(self, place: int, encoded: Encoded, lesson: Lesson | None, step: int) -> Values:
        member = self._members[place]
        return member.objective(compare(member.state, encoded, lesson, member.objective, step), step)

    def _in_one_go(
        self, places: Sequence[int], image_MBD: Tensor, text_MBD: Tensor, lesson: Lesson | None, step: int
    ) -> tuple[Tensor, list[Values]]:
        own = [self._own[place] for place in places]
        stacked = {name: torch.stack([parameters[name] for parameters in own]) for name in own[0]}
        losses = _Losses(self._members[places[0]], lesson, step)

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

    def __init__(self, member: Member, lesson: Lesson | None, step: int) -> None:
        super().__init__()
        self.state = member.state
        self._objective, self._lesson, self._step = member.objective, lesson, step

    def forward(self, image_BD: Tensor, text_BD: Tensor) -> Tensor:
        encoded = Encoded(image_BD, text_BD, None, {})
        comparison = compare(self.state, encoded, self._lesson, self._objective, self._step)
        return torch.stack(list(self._objective.unweighted(comparison, self._step).values()))
