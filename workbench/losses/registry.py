"""The losses by name. Adding one is adding its file to this folder: every Loss subclass found there is registered."""

import importlib
import inspect
import pkgutil
from typing import Any

import torch
from torch import Tensor

import workbench.losses as package
from workbench.config.nearest import unknown
from workbench.config.run import LossConfig
from workbench.embeddings import Comparison, Embeddings
from workbench.losses.base import Loss
from workbench.losses.learnt import LearntParts


def _discover() -> dict[str, type[Loss]]:
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return {loss.name: loss for loss in sorted(Loss.__subclasses__(), key=lambda loss: loss.name)}


def make_loss(name: str, /, **options: Any) -> Loss:
    """The loss called ``name`` with its own options.

    Raises:
        ValueError: no loss has this name, or it has no such option; offers the nearest.
    """
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    loss = LOSSES[name]
    known = [*inspect.signature(loss).parameters, *LossConfig.model_fields]
    for option in options:
        if option not in known:
            raise unknown(f"setting of loss.{name}", option, known)
    try:
        return loss(**options)
    except ValueError as error:
        raise ValueError(f"loss.{name}: {error}") from None


def build_loss(name: str, /, **options: Any) -> "StandaloneLoss":
    """A loss to call by itself: ``build_loss("fd", convention="released")(student, teacher)``.

    Raises:
        ValueError: no loss has this name, or it has no such option.
    """
    return StandaloneLoss(make_loss(name, **options))


class StandaloneLoss:
    """A loss with the learnt parts it needs, made afresh (seed 0) at the first call to fit the inputs."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss
        self.learnt: LearntParts | None = None

    def __call__(self, student: Embeddings, teacher: Embeddings | None = None) -> Tensor:
        """The loss of these B pairs, a 0-d tensor.

        Where the widths differ, the unit-length student embeddings are what goes through the projection.
        """
        if self.learnt is None:
            width = teacher.width if teacher else None
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                learnt = LearntParts({self.loss.name: self.loss}, student.width, width)
            self.learnt = learnt.to(student.image_BD)
        projected = self.learnt.project(student.image_BD, student.text_BD, student.scale) or student
        return self.loss(Comparison(student, teacher, projected, self.learnt.parts))


LOSSES: dict[str, type[Loss]] = {}
LOSSES.update(_discover())
