"""Comparison -> scalar: one loss a file, the registry that finds them, and the objective that weights them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.losses.registry import LOSSES, build_loss

__all__ = ["LOSSES", "build_loss"]


def __getattr__(name: str) -> Any:
    # Lazy, because the registry imports every file of this folder, and those import this package.
    if name in __all__:
        from workbench.losses import registry

        return getattr(registry, name)
    raise AttributeError(name)
