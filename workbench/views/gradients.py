"""Snapshots of one run's gradients -> how hard each loss pulls over the steps, and who fights whom.

Shape letter: K losses.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workbench.events import Event, StepDone
from workbench.views.curves import Series

if TYPE_CHECKING:
    from workbench.runs.gradient_snapshots import Gradients


@dataclass(frozen=True)
class Pull:
    """One loss's weighted gradient after one step: its norm at four places, and its share at all tower weights."""

    step: int
    loss: str
    image: float
    text: float
    image_tower: float
    text_tower: float
    share: float


@dataclass(frozen=True)
class Fight:
    """Two losses whose gradients point apart, by the cosine between them."""

    first: str
    second: str
    cosine: float


@dataclass(frozen=True, eq=False)
class GradientsView:
    """What a run's snapshots say: all pulls by step, shares and cosines over the steps, and the cosines at one step.

    A loss that was off for a while has fewer points. ``cosines`` are between any two losses' gradients at all tower
    weights. ``tower_cosine_KK`` and ``embedding_cosine_KK`` are between the losses named in ``losses``, those that were
    on at ``step``.
    """

    pulls: tuple[Pull, ...]
    shares: dict[str, Series]
    cosines: dict[tuple[str, str], Series]
    step: int
    losses: tuple[str, ...]
    tower_cosine_KK: NDArray[np.float64]
    embedding_cosine_KK: NDArray[np.float64]

    @property
    def steps(self) -> list[int]:
        """The diagnosed steps, ascending."""
        return sorted({pull.step for pull in self.pulls})

    def thinned(self, number: int) -> list[int]:
        """At most ``number`` of the diagnosed steps, evenly spread, the first and the last among them."""
        steps = self.steps
        places = np.linspace(0, len(steps) - 1, min(number, len(steps))).round().astype(int)
        return [steps[place] for place in places]

    @property
    def fights(self) -> list[Fight]:
        """The pairs of losses that fight over the tower weights, the fiercest first."""
        pairs = combinations(range(len(self.losses)), 2)
        found = [Fight(self.losses[a], self.losses[b], float(self.tower_cosine_KK[a, b])) for a, b in pairs]
        return sorted((fight for fight in found if fight.cosine < 0), key=lambda fight: fight.cosine)

    def to_json(self) -> dict[str, Any]:
        """The ``gradients`` of ``runs show --gradients --json``."""
        return {
            "pulls": [asdict(pull) for pull in self.pulls],
            "step": self.step,
            "losses": list(self.losses),
            "tower_cosines": self.tower_cosine_KK.tolist(),
            "embedding_cosines": self.embedding_cosine_KK.tolist(),
        }


def gradients_view(snapshots: "Sequence[Gradients]", step: int | None = None) -> GradientsView:
    """The view of one run's snapshots, ascending by step.

    Args:
        step: whose cosines between all losses are asked for; the newest one's if not given.

    Raises:
        ValueError: there is no snapshot, or none of this step.
    """
    if not snapshots:
        raise ValueError("there are no gradients to show: train with --set log.diagnose_every_steps=50")
    pulls = [pull for gradients in snapshots for pull in _pulls(gradients)]
    losses = list(dict.fromkeys(pull.loss for pull in pulls))
    chosen = next((one for one in snapshots if one.step == step), snapshots[-1] if step is None else None)
    if chosen is None:
        there = ", ".join(str(one.step) for one in snapshots)
        raise ValueError(f"no gradients were diagnosed after step {step}; there are those after {there}")
    return GradientsView(
        tuple(pulls),
        {loss: _share(pulls, loss) for loss in losses},
        {pair: _cosine(snapshots, *pair) for pair in combinations(losses, 2)},
        chosen.step,
        chosen.losses,
        chosen.tower_cosine_KK,
        chosen.embedding_cosine_KK,
    )


def _pulls(gradients: "Gradients") -> list[Pull]:
    columns = zip(
        gradients.losses,
        gradients.norm_K("image").tolist(),
        gradients.norm_K("text").tolist(),
        gradients.norm_K("image_tower").tolist(),
        gradients.norm_K("text_tower").tolist(),
        gradients.share_K.tolist(),
        strict=True,
    )
    return [Pull(gradients.step, *column) for column in columns]


def _share(pulls: Sequence[Pull], loss: str) -> Series:
    own = [pull for pull in pulls if pull.loss == loss]
    return Series(np.array([pull.step for pull in own], dtype=np.int64), np.array([pull.share for pull in own]))


def _cosine(snapshots: "Sequence[Gradients]", first: str, second: str) -> Series:
    """Between two losses, at the steps at which both were on."""
    both = [one for one in snapshots if first in one.losses and second in one.losses]
    cosines = [one.tower_cosine_KK[one.losses.index(first), one.losses.index(second)] for one in both]
    return Series(np.array([one.step for one in both], dtype=np.int64), np.array(cosines, dtype=np.float64))


def applied_weights(events: Iterable[Event], step: int) -> dict[str, float]:
    """The weight with which each loss was added to the total at ``step``, by what the log says of its terms.

    A loss whose value was 0 there, or that was off, is left out; so is all where the step was not logged.
    """
    logged = [event for event in events if isinstance(event, StepDone) and event.step == step]
    if not logged:
        return {}
    terms, weighted = logged[-1].terms, logged[-1].weighted
    return {loss: weighted[loss] / value for loss, value in terms.items() if value and weighted.get(loss)}
