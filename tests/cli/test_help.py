"""Every command's help has examples that can be copied into a shell."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from workbench.cli.app import PANELS, app, loaded

EXPANDED = "{}*?[]~$`!#"  # what a shell would read as more than itself
REDIRECTION = re.compile(r"\s+>>?\s+\S+$")
SETTING = re.compile(r"[A-Z_]+=\S+\s+")
QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")


def walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that can be run, with the words that name it."""
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from walk(inner, (*path, name))
    else:
        yield path, command


COMMANDS = dict(pair for name in get_command(app).commands for pair in walk(loaded(name), (name,)))


def examples(path: tuple[str, ...]) -> list[str]:
    _, _, listed = (COMMANDS[path].help or "").partition("Examples:")
    return [line.strip() for line in listed.splitlines() if line.strip()]


EXAMPLES = [example for path in COMMANDS for example in examples(path)]


def test_there_are_as_many_commands_as_panels_show(workbench) -> None:
    names = [name for commands in PANELS.values() for name in commands]
    assert {path[0] for path in COMMANDS} == set(names)
    shown = workbench("--help").out
    places = [shown.index(f" {panel} ") for panel in PANELS]
    assert places == sorted(places)
    assert " Commands " not in shown  # where Typer lists what has no panel


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_a_command_has_an_example_of_itself(path: tuple[str, ...]) -> None:
    assert any(f"workbench {' '.join(path)} " in f"{example} " for example in examples(path))


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_one_shell_command_without_expansion(example: str) -> None:
    assert subprocess.run(["bash", "-n", "-c", example], capture_output=True, check=False).returncode == 0
    bare = QUOTED.sub("", REDIRECTION.sub("", example)).replace("~/", "")
    assert not set(EXPANDED) & set(bare), "quote it"


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_names_a_command_with_options_that_it_has(example: str) -> None:
    program, *words = shlex.split(SETTING.sub("", REDIRECTION.sub("", example)))
    if program == "torchrun":  # torchrun OPTIONS -m workbench COMMAND
        program, *words = words[words.index("-m") + 1 :]
    assert program == "workbench"
    path = next(path for path in COMMANDS if tuple(words[: len(path)]) == path)
    known = {option for parameter in COMMANDS[path].params for option in parameter.opts + parameter.secondary_opts}
    assert {word for word in words if word.startswith("--")} <= known
