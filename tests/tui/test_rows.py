from workbench.tui.rows import Cell, Column, sorted_lines

COLUMNS = [Column("name", "name", 6), Column("value", "value", 8, is_number=True)]
LINES = {
    "x": (Cell("beta"), Cell("−2.5")),
    "y": (Cell("alpha"), Cell("1,200")),
    "z": (Cell("gamma"), Cell("–")),
}


def test_numbers_end_at_the_right_and_long_text_is_cut() -> None:
    assert COLUMNS[1].fitted("12.5") == "    12.5"
    assert COLUMNS[0].fitted("ab") == "ab    "
    assert COLUMNS[1].fitted("a long text") == "a long …"


def test_rows_are_sorted_by_numbers_or_text_and_what_has_none_is_last() -> None:
    assert list(sorted_lines(LINES, COLUMNS, "value", is_reversed=False)) == ["y", "x", "z"]
    assert list(sorted_lines(LINES, COLUMNS, "value", is_reversed=True)) == ["x", "y", "z"]
    assert list(sorted_lines(LINES, COLUMNS, "name", is_reversed=False)) == ["y", "x", "z"]
    assert list(sorted_lines(LINES, COLUMNS, "other", is_reversed=False)) == ["x", "y", "z"]
