from collections.abc import Callable

import pytest
from rich.cells import cell_len
from rich.console import Console

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


def test_words_are_broken_at_spaces_before_anything_is_stacked(printed: Callable[..., list[str]]) -> None:
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
