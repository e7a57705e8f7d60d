"""A workbench for small-scale CLIP distillation ablations.

Exports lazily, so that ``import workbench`` loads no torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.engine.loading import load_run, load_student

__all__ = ["load_run", "load_student"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from workbench.engine import loading

        return getattr(loading, name)
    raise AttributeError(f"module 'workbench' has no attribute {name!r}")
