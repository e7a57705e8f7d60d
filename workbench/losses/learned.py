"""Parameters that losses train next to the student; and a loss on its own, with the parameters it needs."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from workbench.config.trust import named_in_code
from workbench.embeddings import Embeddings, FeatureKey
from workbench.losses.base import Loss, Widths
from workbench.losses.comparison import Comparison, Features
from workbench.losses.logits import checked_chunk_size
from workbench.losses.registry import compute_loss, make_loss, user_file_errors
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

    def project(
        self, image_BD: Tensor, text_BD: Tensor, scale: Tensor, bias: Tensor | None = None
    ) -> Embeddings | None:
        """Raw (not normalized) student embeddings at the teacher's width, unit length; None without projections."""
        if not self.projections:
            return None
        image, text = self.projections["image"](image_BD), self.projections["text"](text_BD)
        return Embeddings.from_raw(image, text, scale, bias)

    def clamp_(self) -> None:
        """Clamp every learned scale to its range, after an optimizer step."""
        for scale in self._scales().values():
            scale.clamp_()

    def scales(self) -> dict[str, Tensor]:
        """The losses' own scales, 0-d, detached, by loss name (``vrd image``, ``vrd text`` where it has several)."""
        return {name: scale().detach() for name, scale in self._scales().items()}

    @staticmethod
    def owners(names: Iterable[str]) -> list[str]:
        """Readable owners of parameters of the state, given their names: loss names, and "projections"."""
        return sorted({name.removeprefix("_parts.").split(".")[0] for name in names})

    def _scales(self) -> dict[str, LearnedScale]:
        found: dict[str, LearnedScale] = {}
        for name, part in self.parts.items():
            own = {path: module for path, module in part.named_modules() if isinstance(module, LearnedScale)}
            found |= {f"{name} {path}" if len(own) > 1 else name: module for path, module in own.items()}
        return found


def _make_part(loss: Loss, widths: Widths) -> nn.Module | None:
    if not loss.file:
        return loss.learned(widths)
    hook = "learnt" if hasattr(loss, "learnt") else "learned"  # the name in users' files written before
    with user_file_errors(loss.name, loss.file):
        part: object = getattr(loss, hook)(widths)
    if part is not None and not isinstance(part, nn.Module):
        raise ValueError(
            f"loss.{loss.name}: {loss.file}: {hook} returns a {type(part).__name__}, not an nn.Module or None"
        )
    return part


def build_loss(name: str, /, *, chunk_size: int = 0, **options: Any) -> "StandaloneLoss":
    """A loss to call on its own: ``build_loss("fd", convention="released")(student, teacher)``.

    Args:
        chunk_size: rows of a B × B matrix in memory at once; 0 keeps the dense matrix.

    Raises:
        ValueError: an unknown loss or setting.
    """
    with named_in_code():
        loss = make_loss(name, **options)
    return StandaloneLoss(loss, checked_chunk_size(chunk_size))


class StandaloneLoss:
    """A loss with the learned parts it needs, created (seed 0) at the first call to fit the inputs."""

    def __init__(self, loss: Loss, chunk_size: int = 0) -> None:
        self.loss = loss
        self.chunk_size = chunk_size
        self.learned: LearnedParts | None = None

    def __call__(
        self, student: Embeddings, teacher: Embeddings | None = None, features: Features | None = None
    ) -> Tensor:
        """The loss of these B pairs, a 0-d tensor.

        Where the widths differ, the student's unit-length embeddings go through the projection.

        Args:
            features: image-tower features, for a loss that needs them, in the order of its ``features`` request.

        Raises:
            TypeError: plain tensors instead of Embeddings: they carry no scale.
            ValueError: the loss needs a teacher or features that are missing.
        """
        for given in (student, teacher):
            if given is not None and not isinstance(given, Embeddings):
                raise TypeError(
                    f"a loss compares workbench.Embeddings, not a {type(given).__name__}: "
                    "Embeddings.from_raw(image_BD, text_BD, scale) makes them"
                )
        if self.learned is None:
            with torch.random.fork_rng(devices=[]):  # the caller's random state is not touched
                torch.manual_seed(0)
                learned = LearnedParts({self.loss.name: self.loss}, self._widths(student, teacher, features))
            self.learned = learned.to(student.image_BD)
        projected = self.learned.project(student.image_BD, student.text_BD, student.scale) or student
        given_features = {self.loss.name: features} if features else {}
        parts = self.learned.parts
        compared = Comparison(student, teacher, projected, parts, features=given_features, chunk_size=self.chunk_size)
        return compute_loss(self.loss, compared)

    def _widths(self, student: Embeddings, teacher: Embeddings | None, features: Features | None) -> Widths:
        request, widths = self.loss.features, (student.width, teacher.width if teacher else None)
        if request is None:
            return Widths(*widths)
        if features is None:
            raise ValueError(f"{self.loss.name} compares inner features: pass features=Features(student, teacher)")
        if not len(features.student) == len(features.teacher) == len(request.student):
            raise ValueError(f"{self.loss.name} compares {len(request.student)} blocks: pass as many features a side")

        def channels(keys: Iterable[FeatureKey], found: Iterable[Tensor]) -> dict[int, int]:
            return {key.block: feature.shape[1] for key, feature in zip(keys, found, strict=True)}

        blocks = channels(request.student, features.student), channels(request.teacher, features.teacher)
        return Widths(*widths, *blocks)
