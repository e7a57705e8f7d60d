"""Losses: each compares a student with its teacher on one batch and returns a 0-d tensor; one loss per file."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.losses.base import Loss
    from workbench.losses.comparison import Comparison
    from workbench.losses.registry import LOSSES, build_loss

HOMES = {"LOSSES": "registry", "build_loss": "registry", "Loss": "base", "Comparison": "comparison"}

__all__ = ["LOSSES", "Comparison", "Loss", "build_loss"]


def __getattr__(name: str) -> Any:
    # Lazy: the registry imports every file of this folder, and those import this package.
    if name in HOMES:
        from importlib import import_module

        return getattr(import_module(f"workbench.losses.{HOMES[name]}"), name)
    raise AttributeError(name)
