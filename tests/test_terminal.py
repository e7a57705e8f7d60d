"""What a terminal is sent: no character of a file's that it would obey."""

import sys
import unicodedata

import pytest

from workbench.terminal import print_error, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("icl_weight-0.5", "icl_weight-0.5"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("\x9b31m", r"\x9b31m"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x7f\x00", r"\x7f\x00"),
        ("\u202eevil\u2066", r"\u202eevil\u2066"),
        ("\udcff", r"\udcff"),
        ("\U000e0001", r"\U000e0001"),
        ("λ → 图 é \N{NO-BREAK SPACE}", "λ → 图 é \N{NO-BREAK SPACE}"),
        ("\N{MAN}\u200d\N{PERSONAL COMPUTER}", "\N{MAN}\u200d\N{PERSONAL COMPUTER}"),
    ],
)
def test_control_characters_are_shown(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(visible(text)) == shown


def test_no_character_of_unicode_steers() -> None:
    every = set(visible("".join(map(chr, range(sys.maxunicode + 1)))))
    left = {unicodedata.category(one) for one in every}
    assert {"Lu", "Nd", "So"} <= left
    assert not left & {"Cc", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert {one for one in every if unicodedata.category(one) == "Cf"} == {"\u200c", "\u200d"}


def test_a_message_keeps_its_lines_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("two\nlines\x1b[H\r")
    assert capsys.readouterr().err == "two\nlines\\x1b[H\\r\n"
