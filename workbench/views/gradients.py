"""Per-loss gradient norms and pairwise cosines over training, and a two-dimensional gradient field of GD.

Shape letters: K losses; B pairs, D = 2 dimensions, N grid points along each axis.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workbench.events import Event, StepDone
from workbench.randomness import derive_seed
from workbench.views.curves import Series, series_of, spaced

if TYPE_CHECKING:
    from workbench.runs.snapshots import Gradients


@dataclass(frozen=True)
class LossNorms:
    """Norms of one loss's weighted gradient after one step: at the embeddings and at the weights of each tower.

    ``share`` is the loss's share of the summed norms over all tower weights, in [0, 1].
    """

    step: int
    loss: str
    image: float
    text: float
    image_tower: float
    text_tower: float
    share: float


@dataclass(frozen=True)
class GradientConflict:
    """Two losses whose gradients have a negative cosine."""

    first: str
    second: str
    cosine: float


@dataclass(frozen=True, eq=False)
class GradientsView:
    """A run's gradient diagnostics: norms, shares and cosines over training, and all cosines at one step.

    ``shares`` and ``cosines`` are at the tower weights; a loss with weight 0 at some steps has fewer points.
    ``tower_cosine_KK`` and ``embedding_cosine_KK`` are between the K ``losses`` that were active at ``step``.
    """

    norms: tuple[LossNorms, ...]
    shares: dict[str, Series]
    cosines: dict[tuple[str, str], Series]
    step: int
    losses: tuple[str, ...]
    tower_cosine_KK: NDArray[np.float64]
    embedding_cosine_KK: NDArray[np.float64]

    @property
    def steps(self) -> list[int]:
        """The diagnosed steps, ascending."""
        return sorted({norms.step for norms in self.norms})

    def thinned(self, number: int) -> list[int]:
        """At most ``number`` evenly spaced diagnosed steps, including the first and the last."""
        steps = self.steps
        return [steps[index] for index in spaced(len(steps), number)]

    @property
    def conflicts(self) -> list[GradientConflict]:
        """The pairs of losses with a negative cosine at the tower weights, the most negative first."""
        pairs = combinations(range(len(self.losses)), 2)
        cosines = [
            GradientConflict(self.losses[a], self.losses[b], float(self.tower_cosine_KK[a, b])) for a, b in pairs
        ]
        return sorted((pair for pair in cosines if pair.cosine < 0), key=lambda pair: pair.cosine)

    def to_json(self) -> dict[str, Any]:
        """The ``gradients`` of ``runs show --gradients --json``."""
        return {
            "pulls": [asdict(norms) for norms in self.norms],
            "step": self.step,
            "losses": list(self.losses),
            "tower_cosines": self.tower_cosine_KK.tolist(),
            "embedding_cosines": self.embedding_cosine_KK.tolist(),
        }


def gradients_view(snapshots: "Sequence[Gradients]", step: int | None = None) -> GradientsView:
    """The view of one run's snapshots, ascending by step.

    Args:
        step: the step of ``tower_cosine_KK`` and ``embedding_cosine_KK``; the newest if not given.
    """
    if not snapshots:
        raise ValueError("no gradient snapshots: train with --set log.diagnose_every_steps=50")
    norms = [one for gradients in snapshots for one in _norms(gradients)]
    losses = list(dict.fromkeys(one.loss for one in norms))
    chosen = next((one for one in snapshots if one.step == step), snapshots[-1] if step is None else None)
    if chosen is None:
        steps = ", ".join(str(one.step) for one in snapshots)
        raise ValueError(f"no gradient snapshot after step {step}; there are snapshots after {steps}")
    return GradientsView(
        tuple(norms),
        {loss: _share(norms, loss) for loss in losses},
        {pair: _cosine(snapshots, *pair) for pair in combinations(losses, 2)},
        chosen.step,
        chosen.losses,
        chosen.tower_cosine_KK,
        chosen.embedding_cosine_KK,
    )


def _norms(gradients: "Gradients") -> list[LossNorms]:
    columns = zip(
        gradients.losses,
        gradients.norm_K("image").tolist(),
        gradients.norm_K("text").tolist(),
        gradients.norm_K("image_tower").tolist(),
        gradients.norm_K("text_tower").tolist(),
        gradients.share_K.tolist(),
        strict=True,
    )
    return [LossNorms(gradients.step, *column) for column in columns]


def _share(norms: Sequence[LossNorms], loss: str) -> Series:
    return series_of({one.step: one.share for one in norms if one.loss == loss})


def _cosine(snapshots: "Sequence[Gradients]", first: str, second: str) -> Series:
    """The cosine between two losses at the steps at which both were active."""
    both = [one for one in snapshots if first in one.losses and second in one.losses]
    return series_of({one.step: one.tower_cosine_KK[one.losses.index(first), one.losses.index(second)] for one in both})


def applied_weights(events: Iterable[Event], step: int) -> dict[str, float]:
    """The weight of each loss in the total at ``step``, computed from the logged terms.

    Losses with a value or weight of 0 are left out; empty if the step was not logged.
    """
    logged = [event for event in events if isinstance(event, StepDone) and event.step == step]
    if not logged:
        return {}
    terms, weighted = logged[-1].terms, logged[-1].weighted
    return {loss: weighted[loss] / value for loss, value in terms.items() if value and weighted.get(loss)}


# Gradient distillation (CLIP-KD, section 3.2.4) matches the student's embedding gradients to the teacher's. With
# two-dimensional embeddings both can be drawn: CLIP's descent direction as an arrow at every point of the plane, and
# GD's loss, the squared distance to the teacher's gradient, as a shade.

Floats = NDArray[np.float64]
REACH = 1.6  # half the side of the plotted square


@dataclass(frozen=True, eq=False)
class Pairs:
    """Two-dimensional unit embeddings of B pairs, float64 [B, 2]."""

    image_BD: Floats
    text_BD: Floats

    def __len__(self) -> int:
        return len(self.image_BD)


@dataclass(frozen=True, eq=False)
class GradientField:
    """CLIP's gradient and GD's loss as a function of one student image embedding v, all other embeddings fixed.

    Args:
        index: of the image.
        axis_N: grid coordinates along each axis.
        descent_NND: −∂L/∂v at each grid point, indexed [y, x].
        gd_loss_NN: GD's term of this image at each grid point: the squared distance of ∂L/∂v to the teacher's.
        student_descent_D, teacher_descent_D: −∂L/∂v at the image embedding of either model.
    """

    student: Pairs
    teacher: Pairs
    index: int
    scale: float
    teacher_scale: float
    axis_N: Floats
    descent_NND: Floats
    gd_loss_NN: Floats
    student_descent_D: Floats
    teacher_descent_D: Floats

    @property
    def gd_loss(self) -> float:
        """GD's term of this image at the student's embedding."""
        return float(((self.student_descent_D - self.teacher_descent_D) ** 2).sum())


def plane_pairs(num_pairs: int = 4, spread: float = 0.35, seed: int = 0) -> tuple[Pairs, Pairs]:
    """Random pairs on the unit circle, as a student and a teacher embed them.

    Args:
        spread: standard deviation in radians between the teacher's images and their texts; four times that for the
            student.
    """
    if not 2 <= num_pairs <= 12:
        raise ValueError(f"num_pairs must be 2 to 12 to be readable on a circle (got {num_pairs})")
    generator = np.random.default_rng(derive_seed(seed, "plane"))
    text_B = 2 * np.pi * np.arange(num_pairs) / num_pairs + 0.3
    teacher_noise_B, student_noise_B = generator.standard_normal((2, num_pairs))
    student_text_B = text_B + 0.25 * generator.standard_normal(num_pairs)
    teacher = Pairs(_at(text_B + spread * teacher_noise_B), _at(text_B))
    return Pairs(_at(student_text_B + 4 * spread * student_noise_B), _at(student_text_B)), teacher


def moved(pairs: Pairs, index: int, angle: float) -> Pairs:
    """The same pairs with image ``index`` at this angle in radians."""
    image_BD = pairs.image_BD.copy()
    image_BD[index] = _at(np.array([angle]))[0]
    return Pairs(image_BD, pairs.text_BD)


def gradient_field(
    student: Pairs, teacher: Pairs, index: int, scale: float, teacher_scale: float, num_places: int = 21
) -> GradientField:
    """The gradient field of one image, by CLIP-KD's equations 1-6 (appendix).

    With L the batch sum of the mean of both directions, ∂L/∂v[k] = ½ · scale · Σ_j (P[k,j] + Q[k,j] − 2·[j = k]) s[j],
    P the softmax over the texts for image k, Q the softmax over the images for each text.

    Args:
        scale, teacher_scale: 1/τ of each model's logits.
        num_places: grid points along each axis.
    """
    if not (scale > 0 and teacher_scale > 0):
        raise ValueError(f"scale and teacher_scale are 1/τ and must be positive (got {scale:g} and {teacher_scale:g})")
    if not 0 <= index < len(student):
        raise ValueError(f"image index must be 0 to {len(student) - 1} (got {index})")
    axis_N = np.linspace(-REACH, REACH, num_places)
    places_ND = np.stack(np.meshgrid(axis_N, axis_N), axis=-1).reshape(-1, 2)
    teacher_D = image_gradient(teacher, index, teacher_scale, teacher.image_BD[index][None])[0]
    student_ND = image_gradient(student, index, scale, places_ND)
    student_D = image_gradient(student, index, scale, student.image_BD[index][None])[0]
    return GradientField(
        student,
        teacher,
        index,
        scale,
        teacher_scale,
        axis_N,
        -student_ND.reshape(num_places, num_places, 2),
        ((student_ND - teacher_D) ** 2).sum(1).reshape(num_places, num_places),
        -student_D,
        -teacher_D,
    )


def image_gradient(pairs: Pairs, index: int, scale: float, places_ND: Floats) -> Floats:
    """∂L/∂v of image ``index`` with its embedding at each of N points, float64 [N, D]."""
    from scipy.special import softmax

    logits_NB = scale * places_ND @ pairs.text_BD.T
    others_BB = scale * pairs.image_BD @ pairs.text_BD.T
    row_NB = softmax(logits_NB, axis=1)
    # Moving the image changes its row of the logits and, through it, the softmax of every text's column.
    columns_NBB = np.repeat(others_BB[None], len(places_ND), axis=0)
    columns_NBB[:, index] = logits_NB
    column_NB = softmax(columns_NBB, axis=1)[:, index]
    own_B = np.eye(len(pairs))[index]
    gradient_ND: Floats = 0.5 * scale * (row_NB + column_NB - 2 * own_B) @ pairs.text_BD
    return gradient_ND


def _at(angles_B: Floats) -> Floats:
    """Points of the unit circle, [B, 2]."""
    return np.stack([np.cos(angles_B), np.sin(angles_B)], axis=1)
