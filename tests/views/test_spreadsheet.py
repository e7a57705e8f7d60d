import csv

import pytest

from workbench.views.spreadsheet import to_csv


def only_cell(value: object) -> str:
    ((_,), (cell,)) = csv.reader(to_csv(["head"], [[value]]).splitlines())
    return cell


@pytest.mark.parametrize("text", ["=1+1", "+A1", "-A1", "@SUM(A1)", "=cmd|' /C calc'!A0", "-0.5 points", "--quick"])
def test_no_text_is_a_formula(text: str) -> None:
    assert only_cell(text) == f"'{text}"


@pytest.mark.parametrize("number", ["-0.5", "+1e-3", "-inf", "-1", "0.25"])
def test_numbers_stay_numbers(number: str) -> None:
    assert only_cell(number) == number
    assert only_cell(float(number)) == repr(float(number))


def test_a_cell_is_one_line() -> None:
    assert only_cell("a\nb\tc\x1b") == r"a\nb\tc\x1b"
    assert only_cell("\t=1") == r"\t=1"
    assert only_cell("\r=1") == r"\r=1"


def test_a_head_is_no_formula_either() -> None:
    assert to_csv(["=1"], []) == "'=1\n"
