"""What the notebooks show: pictures of ``figures`` with controls, in JupyterLab and VS Code.

``explorer`` is what all share: a picture, its controls, errors as a line, and going on by itself while a run does.
``source`` finds what a notebook names. Each explorer is a file: ``affinity``, ``gradients``, ``field``, ``masks``,
``study``. They hold no arithmetic: that is in ``views``.
``launch`` opens JupyterLab, ``record`` makes the runs that ship.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.notebook.affinity import AffinityExplorer
    from workbench.notebook.explorer import show
    from workbench.notebook.field import FieldExplorer
    from workbench.notebook.gradients import GradientExplorer
    from workbench.notebook.masks import MaskExplorer
    from workbench.notebook.probes import probe_of
    from workbench.notebook.study import StudyExplorer

__all__ = ["AffinityExplorer", "FieldExplorer", "GradientExplorer", "MaskExplorer", "StudyExplorer", "probe_of", "show"]

_HOMES = {
    "AffinityExplorer": "workbench.notebook.affinity",
    "FieldExplorer": "workbench.notebook.field",
    "GradientExplorer": "workbench.notebook.gradients",
    "MaskExplorer": "workbench.notebook.masks",
    "StudyExplorer": "workbench.notebook.study",
    "probe_of": "workbench.notebook.probes",
    "show": "workbench.notebook.explorer",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'workbench.notebook' has no attribute {name!r}")
