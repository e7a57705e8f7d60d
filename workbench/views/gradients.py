"""Gradient snapshots -> each loss's norm and the conflicts between losses; a gradient field in two dimensions.

Shape letter: K losses.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workbench.events import Event, StepDone
from workbench.randomness import derive_seed
from workbench.views.curves import Series

if TYPE_CHECKING:
    from workbench.runs.gradient_snapshots import Gradients


# Snapshots of one run's gradients -> how hard each loss pulls over the steps, and who fights whom.
#
# Shape letter: K losses.


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
class GradientConflict:
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
    def fights(self) -> list[GradientConflict]:
        """The pairs of losses that fight over the tower weights, the fiercest first."""
        pairs = combinations(range(len(self.losses)), 2)
        found = [GradientConflict(self.losses[a], self.losses[b], float(self.tower_cosine_KK[a, b])) for a, b in pairs]
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


# A few pairs in two dimensions -> how CLIP's loss pulls one student picture wherever it may be, and GD's price there.
#
# Gradient distillation (CLIP-KD, section 3.2.4) wants the student's embeddings pulled as the teacher's are. In two
# dimensions both can be seen: an arrow at every place of the plane, and the squared distance to the teacher's arrow.
#
# Shape letters: B pairs, D = 2, N places of a grid along each axis.

Floats = NDArray[np.float64]
REACH = 1.6  # of the plane that is shown, from the origin


@dataclass(frozen=True, eq=False)
class Pairs:
    """Embeddings of B pairs in the plane, float64 [B, 2] of unit length."""

    image_BD: Floats
    text_BD: Floats

    def __len__(self) -> int:
        return len(self.image_BD)


@dataclass(frozen=True, eq=False)
class GradientField:
    """The plane as picture ``index`` of the student feels it, all else staying where it is.

    Args:
        axis_N: the places along each axis.
        pull_NND: −∂L/∂v there, at [row of y, column of x].
        price_NN: the squared distance from ∂L/∂v there to the teacher's ∂L/∂v of the same picture: GD's term.
        student_pull_D, teacher_pull_D: −∂L/∂v where the picture is, for either model.
    """

    student: Pairs
    teacher: Pairs
    index: int
    scale: float
    teacher_scale: float
    axis_N: Floats
    pull_NND: Floats
    price_NN: Floats
    student_pull_D: Floats
    teacher_pull_D: Floats

    @property
    def price(self) -> float:
        """GD's term of this picture, where it is."""
        return float(((self.student_pull_D - self.teacher_pull_D) ** 2).sum())


def plane_pairs(num_pairs: int = 4, spread: float = 0.35, seed: int = 0) -> tuple[Pairs, Pairs]:
    """A student and a teacher of the same pairs, drawn on the circle: the teacher's pictures lie near their texts.

    Args:
        spread: radians by which the teacher's pictures miss their texts; the student's miss by four times as much.

    Raises:
        ValueError: fewer than 2 pairs, or too many to be told apart on a circle.
    """
    if not 2 <= num_pairs <= 12:
        raise ValueError(f"a circle shows 2 to 12 pairs (got {num_pairs})")
    generator = np.random.default_rng(derive_seed(seed, "plane"))
    text_B = 2 * np.pi * np.arange(num_pairs) / num_pairs + 0.3
    noise_B, missed_B = generator.standard_normal((2, num_pairs))
    turned_B = text_B + 0.25 * generator.standard_normal(num_pairs)
    teacher = Pairs(_at(text_B + spread * noise_B), _at(text_B))
    return Pairs(_at(turned_B + 4 * spread * missed_B), _at(turned_B)), teacher


def moved(pairs: Pairs, index: int, angle: float) -> Pairs:
    """The same pairs with picture ``index`` at this angle (radians)."""
    image_BD = pairs.image_BD.copy()
    image_BD[index] = _at(np.array([angle]))[0]
    return Pairs(image_BD, pairs.text_BD)


def gradient_field(
    student: Pairs, teacher: Pairs, index: int, scale: float, teacher_scale: float, num_places: int = 21
) -> GradientField:
    """The field of one picture, by CLIP-KD's equations 1-6 (appendix).

    With L the batch sum of the mean of both directions, ∂L/∂v[k] = ½ · scale · Σ_j (P[k,j] + Q[k,j] − 2·[j = k]) s[j],
    P the softmax over the texts of picture k, Q the softmax over the pictures of each text.

    Args:
        scale, teacher_scale: 1/τ of each model's logits.
        num_places: along each axis.

    Raises:
        ValueError: a scale is not above 0, or there is no such picture.
    """
    if not (scale > 0 and teacher_scale > 0):
        raise ValueError(f"a scale is 1/τ, above 0 (got {scale:g} and {teacher_scale:g})")
    if not 0 <= index < len(student):
        raise ValueError(f"there are pictures 0 to {len(student) - 1} (got {index})")
    axis_N = np.linspace(-REACH, REACH, num_places)
    places_ND = np.stack(np.meshgrid(axis_N, axis_N), axis=-1).reshape(-1, 2)
    wanted_D = image_gradient(teacher, index, teacher_scale, teacher.image_BD[index][None])[0]
    found_ND = image_gradient(student, index, scale, places_ND)
    own_D = image_gradient(student, index, scale, student.image_BD[index][None])[0]
    return GradientField(
        student,
        teacher,
        index,
        scale,
        teacher_scale,
        axis_N,
        -found_ND.reshape(num_places, num_places, 2),
        ((found_ND - wanted_D) ** 2).sum(1).reshape(num_places, num_places),
        -own_D,
        -wanted_D,
    )


def image_gradient(pairs: Pairs, index: int, scale: float, places_ND: Floats) -> Floats:
    """∂L/∂v of picture ``index``, were it at each of these places, float64 [N, D]."""
    logits_NB = scale * places_ND @ pairs.text_BD.T
    others_BB = scale * pairs.image_BD @ pairs.text_BD.T
    row_NB = _softmax(logits_NB, axis=1)
    columns_NBB = np.repeat(others_BB[None], len(places_ND), axis=0)
    columns_NBB[:, index] = logits_NB
    column_NB = _softmax(columns_NBB, axis=1)[:, index]
    own_B = np.eye(len(pairs))[index]
    gradient_ND: Floats = 0.5 * scale * (row_NB + column_NB - 2 * own_B) @ pairs.text_BD
    return gradient_ND


def _softmax(logits: Floats, axis: int) -> Floats:
    raised = np.exp(logits - logits.max(axis=axis, keepdims=True))
    shares: Floats = raised / raised.sum(axis=axis, keepdims=True)
    return shares


def _at(angles_B: Floats) -> Floats:
    return np.stack([np.cos(angles_B), np.sin(angles_B)], axis=1)
