"""The command line in an empty working directory, and a recipe that trains in a second."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w


@pytest.fixture
def workbench(command_line: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """``workbench("runs", "list")`` in an empty working directory; the result's ``code``, ``out`` and ``err``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return command_line


@pytest.fixture
def tiny_recipe(tiny_table: dict[str, object], tmp_path: Path) -> str:
    """A recipe file of a run that takes a second."""
    path = tmp_path / "tiny.toml"
    path.write_text(tomli_w.dumps({key: value for key, value in tiny_table.items() if key != "recipe"}))
    return str(path)
