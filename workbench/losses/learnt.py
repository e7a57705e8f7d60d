"""What is trained beside the student for the losses' sake: projections to the teacher's width, scales, fusions, maps.

These live in the train state: one place to optimise, clip, save and resume them.
"""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from workbench.embeddings import Embeddings
from workbench.losses.base import Loss, Widths
from workbench.losses.custom import blaming
from workbench.losses.scale import LearnedScale


class LearnedParts(nn.Module):
    """Everything the losses of one run train: a projection per modality where the widths differ, and each loss's parts.

    Args:
        losses: the losses in use, by name.
        widths: of the student and of the teacher, if there is one.
    """

    def __init__(self, losses: Mapping[str, Loss], widths: Widths) -> None:
        super().__init__()
        compares = any(loss.needs_projection for loss in losses.values())
        needs_projection = compares and widths.teacher not in (None, widths.student)
        ends = (widths.student, widths.teacher or widths.student)
        self.projections = nn.ModuleDict(
            {side: nn.Linear(*ends) for side in ("image", "text")} if needs_projection else {}
        )
        parts = {name: _made(loss, widths) for name, loss in losses.items()}
        self._parts = nn.ModuleDict({name: part for name, part in parts.items() if part is not None})

    @property
    def parts(self) -> dict[str, nn.Module]:
        """What single losses learn, by loss name."""
        return dict(self._parts.items())

    def project(self, image_BD: Tensor, text_BD: Tensor, scale: Tensor) -> Embeddings | None:
        """Raw (not normalised) student embeddings at the teacher's width, unit length; None without projections."""
        if not self.projections:
            return None
        image, text = self.projections["image"](image_BD), self.projections["text"](text_BD)
        return Embeddings.from_raw(image, text, scale)

    def clamp_(self) -> None:
        """Return every learnt scale to its range after an optimiser step."""
        for scale in self._scales().values():
            scale.clamp_()

    def scales(self) -> dict[str, Tensor]:
        """The losses' own scales by loss name, 0-d, detached."""
        return {name: scale().detach() for name, scale in self._scales().items()}

    @staticmethod
    def owners(names: Iterable[str]) -> list[str]:
        """Whom tensors of the state belong to, as a person knows them: losses by name, and "projections"."""
        return sorted({name.removeprefix("_parts.").split(".")[0] for name in names})

    def _scales(self) -> dict[str, LearnedScale]:
        return {
            name: module
            for name, part in self.parts.items()
            for module in part.modules()
            if isinstance(module, LearnedScale)
        }


def _made(loss: Loss, widths: Widths) -> nn.Module | None:
    if not loss.file:
        return loss.learnt(widths)
    with blaming(loss.name, loss.file):
        part: object = loss.learnt(widths)
    if part is not None and not isinstance(part, nn.Module):
        raise ValueError(
            f"loss.{loss.name}: {loss.file}: learnt returns a {type(part).__name__}, not an nn.Module or None"
        )
    return part
