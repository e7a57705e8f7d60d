"""A workbench for small-scale CLIP distillation ablations.

Exports lazily: ``import workbench`` loads no torch, and ``load_student`` nothing that trains.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.embeddings import Embeddings
    from workbench.models.spec import load_student
    from workbench.runs.summary import load_run

__all__ = ["Embeddings", "load_run", "load_student"]

_HOMES = {
    "Embeddings": "workbench.embeddings",
    "load_run": "workbench.runs.summary",
    "load_student": "workbench.models.spec",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'workbench' has no attribute {name!r}")
