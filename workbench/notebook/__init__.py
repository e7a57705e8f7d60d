"""Interactive figures for JupyterLab and VS Code.

``explorer`` is their base class, ``source`` finds runs, and each explorer has a file: ``affinity``, ``gradients``,
``information``, ``masks``, ``study``, ``training``, ``sweeping``. Their numbers come from ``views``. ``process`` runs a
``workbench`` command next to the kernel, ``encode`` runs models, and ``launch`` opens JupyterLab.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.notebook.affinity import AffinityExplorer
    from workbench.notebook.encode import encode_pairs
    from workbench.notebook.explorer import show
    from workbench.notebook.gradients import FieldExplorer, GradientExplorer
    from workbench.notebook.information import InformationExplorer
    from workbench.notebook.masks import MaskExplorer
    from workbench.notebook.probes import probe_of
    from workbench.notebook.study import StudyExplorer
    from workbench.notebook.sweeping import sweep
    from workbench.notebook.training import TrainingExplorer, train

__all__ = [
    "AffinityExplorer",
    "FieldExplorer",
    "GradientExplorer",
    "InformationExplorer",
    "MaskExplorer",
    "StudyExplorer",
    "TrainingExplorer",
    "encode_pairs",
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
    "encode_pairs": "workbench.notebook.encode",
    "probe_of": "workbench.notebook.probes",
    "show": "workbench.notebook.explorer",
    "sweep": "workbench.notebook.sweeping",
    "train": "workbench.notebook.training",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'workbench.notebook' has no attribute {name!r}")
