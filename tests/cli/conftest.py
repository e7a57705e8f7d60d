"""A recipe that trains in a second."""

from pathlib import Path

import pytest
import tomli_w


@pytest.fixture
def tiny_recipe(tiny_table: dict[str, object], tmp_path: Path) -> str:
    """A recipe file of a run that takes a second."""
    path = tmp_path / "tiny.toml"
    path.write_text(tomli_w.dumps({key: value for key, value in tiny_table.items() if key != "recipe"}))
    return str(path)
