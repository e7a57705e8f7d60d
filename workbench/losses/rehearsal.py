"""A user's loss tried once on random embeddings, so that its mistakes are found before the first step."""

from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workbench.embeddings import Embeddings
from workbench.losses.comparison import Comparison
from workbench.losses.custom import blaming, copied, value_of
from workbench.losses.learnt import LearnedParts

if TYPE_CHECKING:
    from workbench.losses.objective import Objective  # which imports the registry, and that every file here

STUDENT_SCALE, TEACHER_SCALE = 14.3, 50.0


def rehearse(
    objective: "Objective", learnt: LearnedParts, batch_size: int, widths: tuple[int, int | None], device: torch.device
) -> None:
    """Call every loss of a user's file, and differentiate it.

    The loss and its learnt parts are copies: nothing that training will use is changed, nor is any random state. A loss
    that asks for inner features is left out, for their shapes are the model's.

    Args:
        learnt: what the losses train, on the device.
        batch_size: of the run, for a loss may depend on it.
        widths: of the student's and of the teacher's embeddings; None where there is no teacher.

    Raises:
        ValueError: one fails, or returns no number to differentiate.
    """
    losses = [loss for loss in objective.losses.values() if loss.file and not loss.features]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for loss in losses:
            try:
                comparison, leaves = _random(deepcopy(learnt), batch_size, widths, objective.chunk_size, device)
                value = value_of(copied(loss), comparison)
                with blaming(loss.name, loss.file):
                    torch.autograd.grad(value, leaves, allow_unused=True)
            except (MemoryError, RuntimeError):  # of too little memory training says what helps
                return


def _random(
    learnt: LearnedParts, num_pairs: int, widths: tuple[int, int | None], chunk_size: int, device: torch.device
) -> tuple[Comparison, list[Tensor]]:
    """Random embeddings as a loss sees them, and the student's, which are differentiated with respect to."""
    width, teacher_width = widths

    def rows(width: int, learns: bool) -> Tensor:
        return torch.randn(num_pairs, width, device=device, requires_grad=learns)

    leaves = [rows(width, True), rows(width, True), rows(width, True)]
    image_BD, text_BD, masked_BD = leaves
    scale = torch.tensor(STUDENT_SCALE, device=device, requires_grad=True)
    student = Embeddings.from_raw(image_BD, text_BD, scale)
    teacher = None
    if teacher_width is not None:
        teacher_scale = torch.tensor(TEACHER_SCALE, device=device)
        teacher = Embeddings.from_raw(rows(teacher_width, False), rows(teacher_width, False), teacher_scale)
    projected = learnt.project(image_BD, text_BD, scale) or student
    masked = learnt.project(masked_BD, text_BD, scale) or Embeddings.from_raw(masked_BD, text_BD, scale)
    comparison = Comparison(student, teacher, projected, learnt.parts, masked, chunk_size=chunk_size)
    return comparison, leaves
