"""Gradients of losses: norms and conflicts of a run, GD in two dimensions, and the weight that balances GD and CLIP."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import ipywidgets as widgets
import numpy as np

from workbench.figures.gradients import gradient_field_figure, gradients_over_time_figure
from workbench.notebook.controls import log_slider, row, set_steps, step_slider
from workbench.notebook.explorer import Explorer
from workbench.randomness import derive_seed
from workbench.runs.directory import RunDirectory
from workbench.runs.log import read_history
from workbench.runs.snapshots import Gradients
from workbench.views.gradients import (
    GradientField,
    GradientsView,
    Pairs,
    applied_weights,
    gradient_field,
    gradients_view,
    moved,
    plane_pairs,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from workbench.losses.base import Convention

Wanted = dict[str, float]


class GradientExplorer(Explorer):
    """Per-loss gradient norms and conflicts of a run that was trained with ``log.diagnose_every_steps``.

    Args:
        source: a run's id or path, a :class:`RunDirectory`, or the snapshots themselves.
        runs_dir: the runs folder; ``runs`` if not given.

    Attributes:
        selection: the step, each loss's share of the gradient norm, and the gradient conflicts.
        weights: loss weights that give the target shares at this step, to paste into a recipe.
    """

    def __init__(self, source: str | Path | RunDirectory | Sequence[Gradients], runs_dir: Path | None = None) -> None:
        super().__init__()
        self._source, self._runs_dir = source, runs_dir
        self._snapshots: list[Gradients] = []
        self.step = step_slider()
        self.wanted: dict[str, Any] = {}
        self._targets = row()
        self.controls.children = (row(self.step, self.step.play), self._targets)
        self.watch(self.step)
        self.refresh()

    def load(self) -> None:
        self._snapshots = self.read(self._source, self._runs_dir, Gradients)
        view = gradients_view(self._snapshots)
        set_steps(self.step, view.steps)
        if tuple(self.wanted) != tuple(view.shares):
            self._set_sliders(view)

    def draw(self) -> "Figure":
        if self.note.value:
            self._show_weights()
        return gradients_over_time_figure(self.view, self.earlier)

    @property
    def view(self) -> GradientsView:
        """The data of the figure."""
        return gradients_view(self._snapshots, self.step.value)

    @property
    def selection(self) -> dict[str, Any]:
        """The step, each loss's share of the gradient norm, and (loss, loss, cosine) of the gradient conflicts."""
        self.check()
        view = self.view
        shares = {norms.loss: norms.share for norms in view.norms if norms.step == view.step}
        conflicts = [(pair.first, pair.second, pair.cosine) for pair in view.conflicts]
        return {"step": view.step, "shares": shares, "conflicts": conflicts}

    @property
    def weights(self) -> Wanted:
        """Loss weights that give the target shares at this step, with clip's weight (or else the sum) unchanged.

        Raises:
            ValueError: there is only one loss, or a loss has no gradient at the towers.
        """
        from workbench.preflight.calibrate import balanced_weights

        self.check()
        snapshot = next(one for one in self._snapshots if one.step == self.step.value)
        given = dict.fromkeys(snapshot.losses, 1.0) | self._given()
        norms = dict(zip(snapshot.losses, snapshot.tower_norm_K.tolist(), strict=True))
        shares = {loss: float(self.wanted[loss].value) for loss in snapshot.losses}
        total = sum(shares.values())
        return balanced_weights(
            {loss: norm / given[loss] for loss, norm in norms.items()},
            {loss: given[loss] for loss in norms},
            {loss: share / total for loss, share in shares.items()},
        )

    def _given(self) -> Wanted:
        """The weights at this step; empty for snapshots without a run."""
        return applied_weights(read_history(self.run).events, self.step.value) if self.run else {}

    def _set_sliders(self, view: GradientsView) -> None:
        """One slider for each loss, at equal shares."""
        layout = widgets.Layout(width="230px")
        self.wanted = {
            loss: widgets.FloatSlider(
                value=round(1 / len(view.shares), 2), min=0.01, max=1, step=0.01, description=loss, layout=layout
            )
            for loss in view.shares
        }
        for slider in self.wanted.values():
            slider.observe(self.guard(self._show_weights), names="value")
        self._targets.children = (widgets.Label("target shares"), *self.wanted.values()) if len(self.wanted) > 1 else ()

    def _show_weights(self) -> None:
        """Show the weights as lines of a recipe."""
        lines = [f"[loss.{loss}]  weight = {weight:g}" for loss, weight in self.weights.items()]
        self.note.value = (
            f'<div style="font-size:90%">weights for these shares at step {self.step.value:,}, as lines of a recipe '
            f'(with weight_at = "here"):<pre style="margin:0">{chr(10).join(lines)}</pre></div>'
        )


class FieldExplorer(Explorer):
    """A few pairs on a circle with one movable student image, CLIP's gradient on it, and GD's loss.

    Args:
        student, teacher: pairs in the plane; random if not given.

    Attributes:
        selection: the image, its angle in degrees, GD's loss, and both models' descent directions.
    """

    def __init__(self, student: Pairs | None = None, teacher: Pairs | None = None, num_pairs: int = 4) -> None:
        super().__init__()
        random_student, random_teacher = plane_pairs(num_pairs)
        self._student, self._teacher = student or random_student, teacher or random_teacher
        wide = widgets.Layout(width="360px")
        self.index = widgets.Dropdown(options=list(range(len(self._student))), description="image")
        self.index.layout.width = "160px"
        self.angle = widgets.FloatSlider(min=-180, max=180, step=1, description="angle", layout=wide)
        self.scale = log_slider(5, (0, 2), "student 1/τ", width="360px")
        self.teacher_scale = log_slider(5, (0, 2), "teacher 1/τ", width="360px")
        self.controls.children = (row(self.index, self.angle), row(self.scale, self.teacher_scale))
        self.watch(self.index, self.angle, self.scale, self.teacher_scale)
        self.index.observe(self.guard(self._place), names="value")
        self.refresh()

    def load(self) -> None:
        self._place()

    def draw(self) -> "Figure":
        return gradient_field_figure(self.view)

    @property
    def view(self) -> GradientField:
        """The data of the figure."""
        student = moved(self._student, self.index.value, np.deg2rad(self.angle.value))
        return gradient_field(student, self._teacher, self.index.value, self.scale.value, self.teacher_scale.value)

    @property
    def selection(self) -> dict[str, Any]:
        """The image, its angle in degrees, GD's loss, and both models' −∂L/∂v at it, [2] each."""
        self.check()
        view = self.view
        return {
            "image": view.index,
            "angle": self.angle.value,
            "gd_loss": view.gd_loss,
            "student_descent": view.student_descent_D,
            "teacher_descent": view.teacher_descent_D,
        }

    def _place(self) -> None:
        """Reset the angle to that of the selected image."""
        x, y = self._student.image_BD[self.index.value]
        self.angle.value = round(float(np.rad2deg(np.arctan2(y, x))))


@dataclass(frozen=True, eq=False)
class GdWeights:
    """λ_GD at N scales 1/τ by convention, float64 [N]: GD's gradient at the image embeddings then has CLIP's norm."""

    scale_N: "NDArray[np.float64]"
    weights: "dict[str, NDArray[np.float64]]"


def gd_weights(scales: Sequence[float], num_pairs: int = 128, width: int = 64, seed: int = 0) -> GdWeights:
    """The weights at each scale, for a student and a teacher with the same scale, on random float64 embeddings.

    The student is the teacher plus noise, as a partly trained student.
    """
    from workbench.losses.base import Convention

    weights = {
        convention: np.array([_weight(convention, scale, num_pairs, width, seed) for scale in scales])
        for convention in get_args(Convention)
    }
    return GdWeights(np.array(scales, dtype=np.float64), weights)


def _weight(convention: "Convention", scale: float, num_pairs: int, width: int, seed: int) -> float:
    import torch

    from workbench.embeddings import Embeddings
    from workbench.losses import build_loss

    generator = torch.Generator().manual_seed(derive_seed(seed, "gd weights"))
    text_BD, image_noise_BD, one_BD, other_BD = torch.randn(
        4, num_pairs, width, generator=generator, dtype=torch.float64
    )
    scale_0d = torch.tensor(scale, dtype=torch.float64)
    teacher = Embeddings.from_raw(text_BD + 0.5 * image_noise_BD, text_BD, scale_0d)
    image_BD = (teacher.image_BD + 0.1 * one_BD).requires_grad_()
    student = Embeddings.from_raw(image_BD, teacher.text_BD + 0.1 * other_BD, scale_0d)
    norms = [
        float(torch.autograd.grad(loss(student, teacher), image_BD, retain_graph=True)[0].norm())
        for loss in (build_loss("clip"), build_loss("gd", convention=convention))
    ]
    return norms[0] / norms[1]
