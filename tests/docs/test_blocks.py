"""Code in the documentation compiles and imports what exists; TOML loads as the recipe, study or suite that it is."""

import ast
import importlib
import re
import subprocess
import tomllib
from pathlib import Path

from workbench.config.cells import cells_of
from workbench.config.suite import load_suite
from workbench.config.toml import load_recipe
from workbench.losses.registry import make_loss
from workbench.runs.studies import load_study

STUDY_KEYS = {"sweeps", "grid", "cells", "search"}


def test_code_compiles_and_its_imports_exist(code) -> None:
    for node in ast.walk(ast.parse(code.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "workbench":
            module = importlib.import_module(node.module)
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_toml_is_a_recipe_a_study_or_a_suite(toml, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(toml.text)
    if "evaluations" in tomllib.loads(toml.text):
        assert load_suite(str(file)).evaluations
        return
    if STUDY_KEYS & tomllib.loads(toml.text).keys():
        study = load_study(str(file))
        names = {cell.name for cell in cells_of(study)} if not study.search else set()
        assert study.baseline in {*names, ""}
        assert study.paper is None or study.paper.cells.keys() <= names
        return
    for name, loss in load_recipe(str(file)).loss.items():
        if not loss.file:
            make_loss(name, **loss.options())


def test_the_files_that_a_recipe_names_are_on_its_page(toml) -> None:
    page = (Path(__file__).parents[2] / toml.page).read_text()
    for file in re.findall(r'^file = "(.*?)"', toml.text, re.MULTILINE):
        assert f"```python\n# {file}\n" in page


def test_a_script_is_one_that_bash_parses(script) -> None:
    assert subprocess.run(["bash", "-n"], input=script.text, text=True, check=False).returncode == 0
