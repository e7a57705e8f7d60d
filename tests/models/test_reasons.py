"""Another library's error in a few words."""

import pytest

from workbench.models.reasons import reason


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
