"""Interactive figures for JupyterLab and VS Code.

``explorer`` is their base class and finds runs; each other file has the explorers of one subject, whose numbers come
from ``views``. ``process`` runs a ``workbench`` command next to the kernel, and ``launch`` opens JupyterLab.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.notebook.affinity import AffinityExplorer
    from workbench.notebook.explorer import probe_of, show
    from workbench.notebook.gradients import FieldExplorer, GradientExplorer, gd_weights
    from workbench.notebook.information import InformationExplorer, encode_pairs
    from workbench.notebook.masks import MaskExplorer
    from workbench.notebook.study import StudyExplorer
    from workbench.notebook.training import TrainingExplorer, sweep, train

__all__ = [
    "AffinityExplorer",
    "FieldExplorer",
    "GradientExplorer",
    "InformationExplorer",
    "MaskExplorer",
    "StudyExplorer",
    "TrainingExplorer",
    "encode_pairs",
    "gd_weights",
    "probe_of",
    "show",
    "sweep",
    "train",
]

_HOMES = {
    "AffinityExplorer": "workbench.notebook.affinity",
    "FieldExplorer": "workbench.notebook.gradients",
    "GradientExplorer": "workbench.notebook.gradients",
    "InformationExplorer": "workbench.notebook.information",
    "MaskExplorer": "workbench.notebook.masks",
    "StudyExplorer": "workbench.notebook.study",
    "TrainingExplorer": "workbench.notebook.training",
    "encode_pairs": "workbench.notebook.information",
    "gd_weights": "workbench.notebook.gradients",
    "probe_of": "workbench.notebook.explorer",
    "show": "workbench.notebook.explorer",
    "sweep": "workbench.notebook.training",
    "train": "workbench.notebook.training",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'workbench.notebook' has no attribute {name!r}")
