"""What the notebooks show: pictures of ``figures`` with controls, in JupyterLab and VS Code.

``explorer`` is what all share: a picture, its controls, errors as a line, and going on by itself while a run does.
``source`` finds what a notebook names. Each explorer is a file: ``affinity``, ``gradients``, ``field``,
``information``, ``masks``, ``study``, ``training``, ``sweeping``. They hold no arithmetic: that is in ``views``.
``child`` is a command of the workbench beside the kernel, as the last two start one; ``encode`` runs models.
``launch`` opens JupyterLab, ``record`` makes the runs that ship.
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
