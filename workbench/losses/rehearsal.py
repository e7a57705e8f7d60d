"""A trial call of users' losses on random embeddings, so that errors are found before the first step."""

from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workbench.embeddings import Embeddings
from workbench.losses.base import Loss
from workbench.losses.comparison import Comparison
from workbench.losses.custom import compute_loss, copy_loss, user_file_errors
from workbench.losses.learnt import LearnedParts

if TYPE_CHECKING:
    from workbench.losses.objective import Objective  # imports the registry, which imports every file here

STUDENT_SCALE, TEACHER_SCALE = 14.3, 50.0


def rehearse(
    objective: "Objective", learned: LearnedParts, batch_size: int, widths: tuple[int, int | None], device: torch.device
) -> None:
    """Call and differentiate every loss from a user's file.

    Losses and learned parts are copies: neither the training state nor any random state changes. A loss that needs
    image-tower features is skipped, as their shapes depend on the model.

    Args:
        learned: learned parts of the losses, on the device.
        batch_size: of the run, as a loss may depend on it.
        widths: embedding widths of student and teacher; None without a teacher.

    Raises:
        ValueError: a loss raises an error, does not return a differentiable 0-d tensor, or is not finite.
    """
    losses = [loss for loss in objective.losses.values() if loss.file and not loss.features]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for loss in losses:
            try:
                comparison, leaves = _random(deepcopy(learned), batch_size, widths, objective.chunk_size, device)
                value = compute_loss(copy_loss(loss), comparison)
                with user_file_errors(loss.name, loss.file):
                    grads = torch.autograd.grad(value, leaves, allow_unused=True)
            except (MemoryError, RuntimeError):  # training reports out-of-memory errors with a remedy
                return
            if not value.isfinite():
                raise _not_finite(loss, f"returns {float(value)}")
            if not all(grad.isfinite().all() for grad in grads if grad is not None):
                raise _not_finite(loss, f"returns {float(value):.6g}, but its gradient is not finite")


def _not_finite(loss: Loss, what: str) -> ValueError:
    return ValueError(
        f"loss.{loss.name}: {loss.file}: __call__ {what}, on random embeddings: no step can be taken with it, "
        "so look for a division by 0, or the log or sqrt of 0 or less"
    )


def _random(
    learned: LearnedParts, num_pairs: int, widths: tuple[int, int | None], chunk_size: int, device: torch.device
) -> tuple[Comparison, list[Tensor]]:
    """Random embeddings as input of a loss, and the leaf tensors of the student to differentiate with respect to."""
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
    projected = learned.project(image_BD, text_BD, scale) or student
    masked = learned.project(masked_BD, text_BD, scale) or Embeddings.from_raw(masked_BD, text_BD, scale)
    comparison = Comparison(student, teacher, projected, learned.parts, masked, chunk_size=chunk_size)
    return comparison, leaves
