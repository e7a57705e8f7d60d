"""Every page of the manual, and what can be checked in it.

A test that takes ``page``, ``command``, ``code``, ``toml`` or ``script`` runs once for each.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "workbench" / "docs").glob("*.md"))]
INSTALLS = re.compile(r"python3 -m venv|\.venv/bin/pip|\.venv/bin/python")
LAUNCHED = re.compile(r'^ *"\$\{launch\[@\]\}" (.*)$', re.MULTILINE)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
ARGUMENTS = {"code": "python", "toml": "toml", "script": "sh"}


@dataclass(frozen=True)
class Piece:
    """A block of a page or one of its commands, and the page's path from the root."""

    page: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.text.strip().splitlines()[0][:60]}"


def blocks(page: Path, language: str) -> list[Piece]:
    """The code blocks in a language, in order."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [Piece(str(page.relative_to(ROOT)), text) for kind, text in found if kind == language]


def launched(script: Piece) -> list[Piece]:
    """The commands of a script that it starts as ``"${launch[@]}" COMMAND``."""
    return [Piece(script.page, f"workbench {command}") for command in LAUNCHED.findall(script.text)]


def commands(page: Path) -> list[Piece]:
    """Every line of the bash blocks, continuation lines joined, and every ``workbench ...`` in the text."""
    name = str(page.relative_to(ROOT))
    lines = [
        line.strip()
        for block in blocks(page, "bash")
        for line in block.text.replace("\\\n", " ").splitlines()
        if line.strip() and not line.strip().startswith("#")
    ]
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    spans = (" ".join(span.split()) for span in INLINE.findall(text))
    inline = [span for span in spans if re.match(r"workbench [a-z-]", span) and "..." not in span]
    parts = [part.strip() for line in [*lines, *inline] for part in line.split("&&")]
    found = [Piece(name, part) for part in dict.fromkeys(parts) if not INSTALLS.match(part)]
    return found + [one for script in blocks(page, "sh") for one in launched(script)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
    if "command" in metafunc.fixturenames:
        metafunc.parametrize("command", [piece for page in PAGES for piece in commands(page)], ids=str)
    for argument, language in ARGUMENTS.items():
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, [piece for page in PAGES for piece in blocks(page, language)], ids=str)


@pytest.fixture(scope="session")
def words_of():
    """``words_of(command)``: its words as a shell passes them on, without ``workbench`` and comments."""

    def words(command: Piece) -> list[str]:
        program, *arguments = shlex.split(command.text, comments=True)
        if program == "torchrun":  # torchrun OPTIONS -m workbench ARGUMENTS
            program, *arguments = arguments[arguments.index("-m") + 1 :]
        assert program.removeprefix(".venv/bin/") == "workbench", f"{command}: not a command of the workbench"
        return arguments

    return words
