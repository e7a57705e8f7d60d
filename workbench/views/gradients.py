"""Snapshots of one run's gradients -> how hard each loss pulls over the steps, and who fights whom.

Shape letter: K losses.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workbench.views.curves import Series

if TYPE_CHECKING:
    from workbench.runs.snapshots import Gradients


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
    """What a run's snapshots say: all pulls by step, each loss's share over the steps, and the newest cosines.

    A loss that was off for a while has fewer points. ``tower_cosine_KK`` and ``embedding_cosine_KK`` are between the
    losses named in ``losses``, those that were on at ``step``, the newest one.
    """

    pulls: tuple[Pull, ...]
    shares: dict[str, Series]
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


def gradients_view(snapshots: "Sequence[Gradients]") -> GradientsView:
    """The view of one run's snapshots, ascending by step.

    Raises:
        ValueError: there is none.
    """
    if not snapshots:
        raise ValueError("there are no gradients to show: train with --set log.diagnose_every_steps=50")
    pulls = [pull for gradients in snapshots for pull in _pulls(gradients)]
    latest = snapshots[-1]
    return GradientsView(
        tuple(pulls),
        {loss: _share(pulls, loss) for loss in dict.fromkeys(pull.loss for pull in pulls)},
        latest.step,
        latest.losses,
        latest.tower_cosine_KK,
        latest.embedding_cosine_KK,
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
