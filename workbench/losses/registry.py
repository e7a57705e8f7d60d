"""Losses by name: every subclass of Loss in this folder is registered, so a new loss needs a new file only."""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from workbench.config.trust import named_in_code
from workbench.embeddings import Embeddings
from workbench.losses.base import Loss, Widths
from workbench.losses.comparison import Comparison, Features
from workbench.losses.custom import check_callable, compute_loss, defined_losses, describe_error, load_loss_class
from workbench.losses.declared import check_name, check_settings
from workbench.losses.learnt import LearnedParts
from workbench.losses.logits import checked_chunk_size


def _discover() -> dict[str, type[Loss]]:
    found: dict[str, type[Loss]] = {}
    for file in pkgutil.iter_modules(sys.modules[__package__].__path__):
        module = importlib.import_module(f"{__package__}.{file.name}")
        found |= {kind.name: kind for kind in defined_losses(module)}
    return dict(sorted(found.items()))


def make_loss(name: str, /, *, file: str = "", **options: Any) -> Loss:
    """The loss called ``name`` with its settings; with ``file``, the loss defined in this Python file.

    Raises:
        ValueError: an unknown loss or setting (suggests the nearest), a file that defines no loss, or a name that is
            already taken by a built-in loss.
    """
    check_name(name, file, LOSSES)
    loss = load_loss_class(file) if file else LOSSES[name]
    check_settings(name, options, option_names(loss))
    _check_values(name, loss, options)
    try:
        made = loss(**options)
    except (Exception, SystemExit) as error:
        if file and not isinstance(error, ValueError):
            raise ValueError(f"loss.{name}: {describe_error(error, file)}") from error
        if not isinstance(error, ValueError | TypeError):
            raise
        raise ValueError(f"loss.{name}: {error}") from None
    made.name, made.file = name, file
    if file:
        check_callable(made)
    return made


def option_names(loss: type[Loss]) -> list[str]:
    """Names of a loss's own settings."""
    return list(inspect.signature(loss).parameters)


def _check_values(name: str, loss: type[Loss], options: Mapping[str, Any]) -> None:
    parameters = inspect.signature(loss).parameters
    for option, value in options.items():
        if isinstance(parameters[option].default, bool) and not isinstance(value, bool):
            raise ValueError(f"loss.{name}.{option} is true or false (got {value!r})")
    for option, parameter in parameters.items():
        is_required = parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        if is_required and option not in options:
            raise ValueError(f"loss.{name} needs a value: --set loss.{name}.{option}=VALUE, or a default in its file")


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
        ours, theirs = zip(request.student, features.student), zip(request.teacher, features.teacher)  # noqa: B905  # checked by the loss
        return Widths(*widths, *({key.block: given.shape[1] for key, given in side} for side in (ours, theirs)))


LOSSES: dict[str, type[Loss]] = {}
LOSSES.update(_discover())
