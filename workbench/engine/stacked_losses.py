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


def stacked_values(
    members: Sequence[Member], image_MBD: Tensor, text_MBD: Tensor, lesson: Lesson | None, step: int
) -> tuple[Tensor, list[Values]]:
    """The sum of the members' objectives at ``step``, to differentiate, and what each was.

    Gradients reach the parameters of the members' losses themselves.
    """
    groups: dict[object, list[int]] = {}
    for place, member in enumerate(members):
        groups.setdefault(alike(member, step) or place, []).append(place)
    found: dict[int, Values] = {}
    totals = []
    for places in groups.values():
        some = [members[place] for place in places]
        if len(some) == 1:
            encoded = Encoded(image_MBD[places[0]], text_MBD[places[0]], None, {})
            values = [some[0].objective(compare(some[0].state, encoded, lesson, some[0].objective, step), step)]
            totals.append(values[0].total)
        else:
            image, text = (torch.stack([of_MBD[place] for place in places]) for of_MBD in (image_MBD, text_MBD))
            total, values = _in_one_go(some, image, text, lesson, step)
            totals.append(total)
        found |= dict(zip(places, values, strict=True))
    return torch.stack(totals).sum(), [found[place] for place in range(len(members))]


def alike(member: Member, step: int) -> str:
    """What members must have in common for one go; empty for one whose losses have to be computed by themselves.

    A loss of one's own may do what cannot be stacked, such as looking at a number; so may one in blocks of rows.
    """
    configs = {name: member.config.loss[name] for name in member.objective.weights_at(step)}
    if not configs or member.objective.chunk_size or any(config.file for config in configs.values()):
        return ""
    settings = {name: config.options() for name, config in configs.items()}
    return f"{settings} learning {sorted(_own_parameters(member))}"


def _in_one_go(
    members: Sequence[Member], image_MBD: Tensor, text_MBD: Tensor, lesson: Lesson | None, step: int
) -> tuple[Tensor, list[Values]]:
    every = [_own_parameters(member) for member in members]
    stacked = {name: torch.stack([own[name] for own in every]) for name in every[0]}
    losses = _Losses(members[0], lesson, step)

    def values_of(parameters: dict[str, Tensor], image_BD: Tensor, text_BD: Tensor) -> Tensor:
        values_K: Tensor = functional_call(losses, parameters, (image_BD, text_BD))
        return values_K

    values_MK = vmap(values_of)(stacked, image_MBD, text_MBD)
    weights = [member.objective.weights_at(step) for member in members]
    weights_MK = torch.tensor([list(own.values()) for own in weights]).to(values_MK.device, non_blocking=True)
    totals_M = (weights_MK * values_MK).sum(1)
    return totals_M.sum(), [
        Values(total, dict(zip(own, values_K, strict=True)))
        for own, total, values_K in zip(weights, totals_M.detach(), values_MK.detach(), strict=True)
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
