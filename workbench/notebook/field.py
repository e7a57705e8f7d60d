"""``FieldExplorer``: gradient distillation in two dimensions."""

from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import numpy as np

from workbench.figures.gradient_field import gradient_field_figure
from workbench.notebook.explorer import Explorer, row
from workbench.views.gradient_field import GradientField, Pairs, gradient_field, moved, plane_pairs

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class FieldExplorer(Explorer):
    """A few pairs on a circle, one student picture to be moved, and what CLIP's loss and GD make of where it is.

    Args:
        student, teacher: pairs in the plane; drawn if not given.

    Attributes:
        selection: the picture, its angle in degrees, GD's price there, and both pulls.
    """

    def __init__(self, student: Pairs | None = None, teacher: Pairs | None = None, num_pairs: int = 4) -> None:
        super().__init__()
        drawn = plane_pairs(num_pairs)
        self._student, self._teacher = student or drawn[0], teacher or drawn[1]
        wide = widgets.Layout(width="360px")
        self.index = widgets.Dropdown(options=list(range(len(self._student))), description="picture")
        self.index.layout.width = "160px"
        self.angle = widgets.FloatSlider(min=-180, max=180, step=1, description="angle", layout=wide)
        self.scale = widgets.FloatLogSlider(value=5, min=0, max=2, step=0.02, description="student 1/τ", layout=wide)
        self.teacher_scale = widgets.FloatLogSlider(
            value=5, min=0, max=2, step=0.02, description="teacher 1/τ", layout=wide
        )
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
        """The data of the picture."""
        student = moved(self._student, self.index.value, np.deg2rad(self.angle.value))
        return gradient_field(student, self._teacher, self.index.value, self.scale.value, self.teacher_scale.value)

    @property
    def selection(self) -> dict[str, Any]:
        """The picture, its angle in degrees, GD's price there, and the pulls of both models, [2] each."""
        self.check()
        view = self.view
        return {
            "picture": view.index,
            "angle": self.angle.value,
            "price": view.price,
            "student_pull": view.student_pull_D,
            "teacher_pull": view.teacher_pull_D,
        }

    def _place(self) -> None:
        """The angle of the chosen picture, where it was drawn."""
        x, y = self._student.image_BD[self.index.value]
        self.angle.value = round(float(np.rad2deg(np.arctan2(y, x))))
