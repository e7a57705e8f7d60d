import io
import json
import math
from collections.abc import Callable

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.text import Text

from workbench.cli import output

RUNS = ["run", "state", "step", "I→T R@1", "T→I R@1", "zero-shot", "trained"]
ROWS = [
    ["clip-kd-long-s0-1122-1405", "interrupted", "68/150", "0.021", "0.034", "-", "556 s"],
    ["big", "finished", "12000/12000", "0.042", "0.053", "0.331", "1556 s"],
]


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """``printed(width, ...)``: the lines of such a table in a terminal of that width."""

    def print_at(width: int, *arguments: object, **options: object) -> list[str]:
        monkeypatch.setattr(output, "console", Console(width=width, highlight=False))
        output.print_rows(*arguments, **options)
        return capsys.readouterr().out.splitlines()

    return print_at


@pytest.mark.parametrize("width", [26, 40, 60, 80, 90, 140])
def test_no_value_is_broken_or_lost_at_any_width(printed: Callable[..., list[str]], width: int) -> None:
    lines = printed(width, RUNS, ROWS, num_words=2)
    assert max(map(cell_len, lines)) <= width
    words = " ".join(lines).replace(",", " ").split()
    for row in ROWS:
        assert all(word in words for cell in row if cell != "-" for word in cell.split())


def test_a_wide_terminal_has_a_table_and_a_narrow_one_stacked_rows(printed: Callable[..., list[str]]) -> None:
    wide = printed(140, RUNS, ROWS, num_words=2)
    assert wide[0].split("  ")[0] == "run"
    assert len(wide) == 3
    assert len({len(line.rstrip()) for line in wide}) == 1  # the last column is set to the right
    assert printed(40, RUNS, ROWS[:1], num_words=2) == [
        "clip-kd-long-s0-1122-1405",
        "  state interrupted, step 68/150,",
        "  I→T R@1 0.021, T→I R@1 0.034,",
        "  trained 556 s",
    ]


def test_words_wrap_before_rows_are_stacked(printed: Callable[..., list[str]]) -> None:
    lines = printed(30, ["recipe", "question"], [["one", "What does a long question ask of a terminal?"]], num_words=2)
    assert lines[0].split() == ["recipe", "question"]
    assert " ".join(line[8:].strip() for line in lines[1:]) == "What does a long question ask of a terminal?"


def test_a_path_is_broken_rather_than_stacked(printed: Callable[..., list[str]]) -> None:
    path = "/" + "a" * 90
    lines = printed(60, ["check", "finding"], [["runs folder", f"free at {path}"]], num_words=2)
    assert lines[0].split() == ["check", "finding"]
    assert path in "".join(line[13:].strip() for line in lines[1:])


def test_a_title_is_one_line_however_narrow_the_table(printed: Callable[..., list[str]]) -> None:
    assert printed(80, ["a", "b"], [["x", "1"]], "a title that is longer than the table")[0] == (
        "a title that is longer than the table"
    )


def test_markup_in_a_cell_is_text(printed: Callable[..., list[str]]) -> None:
    assert printed(80, ["a", "b"], [["[/b]", "[red]"]])[1].split() == ["[/b]", "[red]"]
    assert printed(6, ["a", "b"], [["[/b]", "[red]x"]]) == ["[/b]", "  b [red]x"]


def test_one_long_name_has_a_line_of_its_own_and_the_others_stay_rows(printed: Callable[..., list[str]]) -> None:
    long = ["clip-kd-with-a-very-long-name-that-fills-a-terminal-s0-1122-1405", *ROWS[0][1:]]
    lines = printed(80, RUNS, [ROWS[1], long, ["small", *ROWS[1][1:]]], num_words=2)
    assert len(lines) <= 6
    assert lines[-3] == long[0]
    assert lines[-2].split()[:2] == ["interrupted", "68/150"]
    assert lines[-1].split()[:2] == ["small", "finished"]
    assert lines[-1].index("finished") == lines[-2].index("interrupted")


def test_a_name_of_several_lines_is_one(printed: Callable[..., list[str]]) -> None:
    assert printed(80, ["a\x1b[2J", "b"], [["x\ny\x9b", "1"]])[1].split() == [r"x\ny\x9b", "1"]
    assert printed(80, ["a", "b"], [["x", "1\n2"]], lines=True)[-1].split() == ["2"]


def test_markup_in_a_heading_is_text(printed: Callable[..., list[str]]) -> None:
    assert printed(80, ["a", "[red]b[/b]"], [["x", "1"]])[0].split() == ["a", "[red]b[/b]"]


@pytest.mark.parametrize(
    "printable",
    [lambda text: text, Text, lambda text: Panel(Text(text)), lambda text: Panel("", title=escape(text))],
)
def test_a_console_sends_no_control_character_of_a_text(printable: Callable[[str], object]) -> None:
    file = io.StringIO()
    output.PlainConsole(file=file, width=100).print(printable("a\x1b]0;x\x9b\u202e\x7fb"), markup=False)
    assert file.getvalue().replace("\n", "").isprintable()
    assert r"a\x1b]0;x\x9b\u202e\x7fb" in file.getvalue()


def test_json_is_valid_and_printable_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    document = {"a": [math.inf, -math.inf, {"b": math.nan}], "\x9b": "é\x7f\u202e\udcff\U000e0001", "c": (1.5, 2)}
    output.print_json(document)
    printed = capsys.readouterr().out
    assert printed.replace("\n", "").isprintable()
    assert "é" in printed
    assert json.loads(printed) == {
        "a": ["Infinity", "-Infinity", {"b": "NaN"}],
        "\x9b": document["\x9b"],
        "c": [1.5, 2],
    }


def test_further_lines_of_a_message_are_set_in() -> None:
    assert output.indented("one\nworkbench: two\x1b") == "one\n    workbench: two\\x1b"
