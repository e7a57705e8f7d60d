"""Every command in the documentation is one of the program's, with options, names and settings that exist."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from workbench.cli.app import app
from workbench.config.cells import base_config
from workbench.config.inheritance import Plan
from workbench.config.run import RunConfig
from workbench.config.toml import load_recipe, parse_override, with_overrides
from workbench.losses import LOSSES
from workbench.losses.registry import make_loss
from workbench.runs.studies import load_study

ROOT = Path(__file__).parents[2]
EXPANDED = "{}*?[]"  # what a shell would not pass on as it stands
STEERED = re.compile(r"optimizer\.learning_rate|loss\.(\w+)\.weight")


def parsed(arguments: list[str]) -> tuple[str, dict[str, Any]]:
    """The command's path, such as ``runs show``, and its parameters; nothing is executed.

    Raises:
        typer's own usage error: an unknown command or option, or a missing argument.
    """
    command, context, path = get_command(app), None, []
    while True:
        for parameter in command.params:
            parameter.callback = None
        context = command.make_context(path[-1] if path else "workbench", list(arguments), parent=context)
        rest = [*context._protected_args, *context.args]
        if not hasattr(command, "commands") or not rest:
            return " ".join(path), context.params
        name, command, arguments = command.resolve_command(context, rest)
        path.append(name)


def check_losses(config: RunConfig) -> None:
    """Every loss exists and has the settings that the config gives it."""
    for name, loss in config.loss.items():
        if not loss.file:
            make_loss(name, **loss.options())


def test_a_command_exists_with_its_options(command, words_of) -> None:
    parsed(words_of(command))


def test_what_a_shell_would_expand_is_quoted(command) -> None:
    bare = re.sub(r"'[^']*'|\"[^\"]*\"|#.*", "", command.text)
    assert not set(bare) & set(EXPANDED), f"{command}: quote it"


def test_its_recipes_studies_and_settings_exist(command, words_of) -> None:
    check_names(*parsed(words_of(command)))


def check_names(name: str, given: dict[str, Any]) -> None:
    """The recipes, studies and settings in a command's parameters exist.

    Raises:
        ValueError: one of them does not.
    """
    overrides = [*(given.get("overrides") or []), *(given.get("values") or [])]  # of --set and of sweep --try
    study = given.get("name_or_file") or given.get("study")  # of sweep, and of report
    chosen = given.get("recipe") or given.get("recipes") or "clip-kd"
    if name == "inherit":
        for override in overrides:
            Plan.parse(parse_override(override))
    elif study and not study.endswith(".toml"):
        check_losses(with_overrides(base_config(load_study(study)), overrides))
    else:
        for recipe in [chosen] if isinstance(chosen, str) else chosen:
            if not recipe.endswith(".toml"):
                check_losses(load_recipe(recipe, overrides))


def test_shares_and_steered_settings_are_of_losses_that_exist(command, words_of) -> None:
    name, given = parsed(words_of(command))
    if name == "calibrate":
        assert {share.partition("=")[0] for share in given["shares"] or ()} <= LOSSES.keys()
    if name == "runs set":
        settings = next(value for value in given.values() if isinstance(value, list | tuple))
        for setting in settings:
            key, _, value = setting.partition("=")
            found = STEERED.fullmatch(key)
            assert found is not None
            assert found[1] is None or found[1] in LOSSES
            assert float(value) > 0


@pytest.mark.parametrize(
    "mistake",
    [
        "train --recpie fd",
        "tran",
        "runs shwo one",
        "runs fork",
        "train --set loss.fdd.weight=1",
        "sweep --study fd_wieght",
    ],
)
def test_a_mistake_would_be_found(mistake: str) -> None:
    with pytest.raises(Exception, match=r"[Nn]o such|Missing|unknown"):
        check_names(*parsed(mistake.split()))


def test_the_listing_commands_run(workbench) -> None:
    assert "clip-kd" in workbench("recipes").out
    assert {"icl_weight", "fd_weight"} <= {
        study["name"] for study in json.loads(workbench("studies", "--json").out)["studies"]
    }
    losses = json.loads(workbench("losses", "--batch", "256", "--dim", "128", "--json").out)
    released = {
        loss["name"]: loss["translated_weight"] for loss in losses["losses"] if loss["convention"] == "released"
    }
    assert released["fd"] == 2000 * 128 / 512
    listed = workbench("runs", "list")
    assert listed.code == 0, listed.err


def test_the_guides_table_of_columns_is_read(workbench, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number, source in enumerate(sorted((ROOT / "workbench" / "docs").glob("*.png"))[:3]):
        shutil.copy(source, images / f"{number}.png")
    rows = "".join(f"images/{number}.png,chart number {number}\n" for number in range(3))
    (tmp_path / "pairs.csv").write_text("filepath,title\n" + rows)
    checked = workbench("data", "check", "pairs.csv", "--sheet", "pairs.png", "--json")
    assert checked.code == 0, checked.err
    assert json.loads(checked.out)["num_pairs"] == 3
    assert (tmp_path / "pairs.png").is_file()
