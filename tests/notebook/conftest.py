"""Notebooks executed as a person would, with every control then moved, and what went wrong collected."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent.parent
STATE = "application/vnd.jupyter.widget-state+json"

# Runs after the notebook's own cells: every control of every explorer is given another value, as a browser would.
MOVE_ALL = """
import gc
import ipywidgets
from workbench.notebook.explorer import Explorer

def controls_of(widget):
    for child in getattr(widget, "children", ()):
        yield from controls_of(child)
    if isinstance(widget, ipywidgets.ValueWidget) or hasattr(widget, "clicked"):
        yield widget

def others(control):
    if hasattr(control, "clicked"):
        return [("clicked", [0.2, 0.3]), ("clicked", [0.5, 0.6])]
    if isinstance(control, ipywidgets.Play):
        return []
    if hasattr(control, "options"):
        return [("index", place) for place in range(min(len(control.options), 5))]
    if isinstance(control.value, bool):
        return [("value", not control.value)]
    if isinstance(control.value, tuple):
        low, high = control.min, control.max
        return [("value", (low + 0.3 * (high - low), high)), ("value", (low, high))]
    if isinstance(control, ipywidgets.FloatLogSlider):
        return [("value", control.base ** control.min), ("value", control.base ** control.max)]
    if hasattr(control, "max"):
        return [("value", control.min), ("value", (control.min + control.max) / 2), ("value", control.max)]
    return []

explorers = [found for found in gc.get_objects() if isinstance(found, Explorer)]
moved = 0
for explorer in explorers:
    assert explorer.error is None, explorer.error
    for control in list(controls_of(explorer.widget)):
        for name, value in others(control):
            setattr(control, name, value)
            moved += 1
            if explorer.error is not None and not isinstance(explorer.error, ValueError):
                raise explorer.error
    for control in list(controls_of(explorer.widget)):
        if isinstance(control, ipywidgets.Checkbox):
            control.value = not control.value
print(len(explorers), "explorers,", moved, "moves")
"""


@dataclass
class Executed:
    """A notebook after it has run, and what went wrong in it by itself and when its controls were moved."""

    notebook: Any
    errors: list[str] = field(default_factory=list)
    num_moves: int = 0

    @property
    def images(self) -> list[bytes]:
        """Every png that a cell shows."""
        from base64 import b64decode

        outputs = [output for cell in self.notebook.cells for output in cell.get("outputs", ())]
        found = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
        return [b64decode(one) for one in found]


@pytest.fixture
def execute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Executed]:
    """``execute("01_affinity_matrices")``, in an empty folder, and with a runs folder that holds nothing."""
    monkeypatch.setenv("WORKBENCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)

    def run(name: str) -> Executed:
        notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        notebook.cells.append(nbformat.v4.new_code_cell(MOVE_ALL))
        client = NotebookClient(notebook, timeout=1500, allow_errors=True, resources={"metadata": {"path": tmp_path}})
        client.execute()
        last = notebook.cells.pop()
        found = re.search(r"(\d+) moves", "".join(output.get("text", "") for output in last.outputs))
        moves = int(found[1]) if found else 0
        return Executed(notebook, [*_errors([*notebook.cells, last]), *_widget_errors(notebook)], moves)

    return run


def _errors(cells: list[Any]) -> Iterator[str]:
    for cell in cells:
        for output in cell.get("outputs", ()):
            if output["output_type"] == "error":
                yield f"{output['ename']}: {output['evalue']} in {cell.source[:80]!r}"
            if output.get("name") == "stderr" and "Traceback" in output["text"]:
                yield output["text"]


def _widget_errors(notebook: Any) -> Iterator[str]:
    """Errors that widgets show instead of raising: in an output area, and in the error line of an explorer."""
    for model in notebook.metadata.get("widgets", {}).get(STATE, {}).get("state", {}).values():
        state = model["state"]
        yield from (str(one) for one in state.get("outputs", ()) if one.get("output_type") == "error")
        if "workbench-error" in state.get("_dom_classes", ()) and state.get("value"):
            yield state["value"]
