"""Every bundled notebook runs on the shipped data, and its controls can be moved."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent.parent / "notebooks").glob("*.ipynb"))


def cells(path: Path, kind: str) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_prose_and_calls_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    code = "\n".join(source for source in cells(path, "code") if not source.startswith("%"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    assert not [node for node in ast.walk(ast.parse(code)) if isinstance(node, kinds)]
    assert len(cells(path, "markdown")) >= len(cells(path, "code")) / 2
    assert re.match(r"# .+", cells(path, "markdown")[0].split("\n")[0])


@pytest.mark.slow
@pytest.mark.timeout(1800)  # the last one trains, on a machine that may have better things to do
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_its_controls_move(path: Path, execute) -> None:
    done = execute(path.stem)
    assert done.errors == []
    assert done.num_moves > 5
    assert len(done.images) >= 1
    assert all(len(image) > 5_000 for image in done.images)
