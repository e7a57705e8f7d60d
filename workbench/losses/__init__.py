"""Losses: each compares a student with its teacher on one batch and returns a 0-d tensor; one loss per file."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.losses.base import Loss
    from workbench.losses.comparison import Comparison
    from workbench.losses.learned import build_loss

    LOSSES: dict[str, type[Loss]]

HOMES = {"build_loss": "learned", "Loss": "base", "Comparison": "comparison"}

__all__ = ["LOSSES", "Comparison", "Loss", "build_loss"]


def __getattr__(name: str) -> Any:
    # Lazy: every file of this folder imports this package first.
    if name == "LOSSES":
        return import_module("workbench.losses.registry").built_in_losses()
    if name in HOMES:
        return getattr(import_module(f"workbench.losses.{HOMES[name]}"), name)
    raise AttributeError(name)
