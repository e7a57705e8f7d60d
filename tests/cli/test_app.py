"""Errors of commands: one line on stderr, and the exit status."""

from importlib.metadata import version

import pytest

from workbench.cli import app


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ValueError("unknown loss 'icll'"), 2, "workbench: unknown loss 'icll'\n"),
        (
            PermissionError(13, "Permission denied", "/root/x.tar"),
            2,
            "workbench: /root/x.tar: permission denied; choose another path",
        ),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_a_person_can_mend_is_one_line(workbench, monkeypatch, error, code: int, words: str) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(app, "app", fail)
    result = workbench("recipes")
    assert result.code == code
    assert result.err.startswith(words)
    assert result.err.count("\n") == bool(words)


def test_the_version_is_that_of_the_package(workbench) -> None:
    done = workbench("--version")
    assert (done.code, done.err) == (0, "")
    assert done.out == f"workbench {version('clip-distillation-workbench')}\n"
