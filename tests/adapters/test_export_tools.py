import tomllib
from pathlib import Path

import pytest

from workbench.adapters import export
from workbench.adapters.export import TOOLS, check_tool, export_command

ROOT = Path(__file__).parents[2]


def test_each_tool_is_an_extra_that_installs_it() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for tool in TOOLS:
        assert [requirement.startswith(tool) for requirement in extras[tool]] == [True]


def test_an_unknown_tool_is_told_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'tensorboard'"):
        check_tool("tensorbord")


@pytest.mark.parametrize("tool", TOOLS)
def test_a_missing_package_is_one_line_with_the_extra(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=rf"pip install 'clip-distillation-workbench\[{tool}\]'"):
        check_tool(tool)


def test_the_folder_that_a_tool_writes_is_not_the_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no_such_tool").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(export.TOOLS, "no_such_tool", "No such tool")
    with pytest.raises(ValueError, match="No such tool is not installed"):
        check_tool("no_such_tool")


def test_an_installed_one_passes_and_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trackio.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    check_tool("trackio")


def test_the_command_can_be_pasted(run) -> None:
    assert export_command(run, "wandb") == f"workbench runs export {run.path} --to wandb"
