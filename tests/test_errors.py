"""An unknown name gets the nearest match."""

import doctest

import pytest

from workbench import errors
from workbench.errors import MAX_LISTED, reason, unknown


def test_the_example_in_the_docstring_is_what_happens():
    assert doctest.testmod(errors) == doctest.TestResults(failed=0, attempted=1)


@pytest.mark.parametrize(
    ("name", "choices", "remedy"),
    [
        ("clip_kd", ["baseline", "clip-kd"], "did you mean 'clip-kd'?"),
        ("num_step", {"num_pairs", "num_steps"}, "did you mean 'num_steps'?"),
        ("zzz", ("fd", "clip", "icl"), "choose one of: clip, fd, icl"),
        ("", ["fd"], "choose one of: fd"),
    ],
)
def test_the_remedy(name, choices, remedy):
    assert str(unknown("thing", name, choices)) == f"unknown thing '{name}': {remedy}"


def test_of_many_choices_only_the_first_are_listed():
    names = [f"{number:03d}" for number in range(MAX_LISTED + 1)]
    assert str(unknown("thing", "zzz", names[:-1])).endswith(": " + ", ".join(names[:-1]))
    assert str(unknown("thing", "zzz", names)).endswith(": " + ", ".join(names[:-1]) + ", ...")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("first\nsecond"), "first"),
        (AssertionError(), "AssertionError"),
        (EOFError(""), "EOFError"),
        (KeyError("embed_dim"), "KeyError 'embed_dim'"),
        (FileNotFoundError(2, "No such file", "x.pt"), "[Errno 2] No such file: 'x.pt'"),
    ],
)
def test_the_first_line_or_the_type(error, words):
    assert reason(error) == words
