"""Parameters that losses train next to the student: projections, scales, fusions and feature maps."""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from workbench.embeddings import Embeddings
from workbench.losses.base import Loss, Widths
from workbench.losses.custom import user_file_errors
from workbench.losses.scale import LearnedScale


class LearnedParts(nn.Module):
    """All parameters that a run's losses train: a projection per modality if the widths differ, and each loss's parts.

    They belong to the train state, so that they are optimized, clipped, saved and resumed together with the student.

    Args:
        losses: the losses in use, by name.
        widths: of the student and of the teacher, if there is one.
    """

    def __init__(self, losses: Mapping[str, Loss], widths: Widths) -> None:
        super().__init__()
        compares_directly = any(loss.needs_projection for loss in losses.values())
        needs_projection = compares_directly and widths.teacher not in (None, widths.student)
        shape = (widths.student, widths.teacher or widths.student)
        self.projections = nn.ModuleDict(
            {side: nn.Linear(*shape) for side in ("image", "text")} if needs_projection else {}
        )
        parts = {name: _make_part(loss, widths) for name, loss in losses.items()}
        self._parts = nn.ModuleDict({name: part for name, part in parts.items() if part is not None})

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Learned parts of single losses, by loss name."""
        return dict(self._parts.items())

    def project(self, image_BD: Tensor, text_BD: Tensor, scale: Tensor) -> Embeddings | None:
        """Raw (not normalized) student embeddings at the teacher's width, unit length; None without projections."""
        if not self.projections:
            return None
        image, text = self.projections["image"](image_BD), self.projections["text"](text_BD)
        return Embeddings.from_raw(image, text, scale)

    def clamp_(self) -> None:
        """Clamp every learned scale to its range, after an optimizer step."""
        for scale in self._scales().values():
            scale.clamp_()

    def scales(self) -> dict[str, Tensor]:
        """The losses' own scales by loss name, 0-d, detached."""
        return {name: scale().detach() for name, scale in self._scales().items()}

    @staticmethod
    def owners(names: Iterable[str]) -> list[str]:
        """Readable owners of parameters of the state, given their names: loss names, and "projections"."""
        return sorted({name.removeprefix("_parts.").split(".")[0] for name in names})

    def _scales(self) -> dict[str, LearnedScale]:
        return {
            name: module
            for name, part in self.parts.items()
            for module in part.modules()
            if isinstance(module, LearnedScale)
        }


def _make_part(loss: Loss, widths: Widths) -> nn.Module | None:
    if not loss.file:
        return loss.learnt(widths)
    with user_file_errors(loss.name, loss.file):
        part: object = loss.learnt(widths)
    if part is not None and not isinstance(part, nn.Module):
        raise ValueError(
            f"loss.{loss.name}: {loss.file}: learnt returns a {type(part).__name__}, not an nn.Module or None"
        )
    return part
