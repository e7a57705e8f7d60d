import csv
import math

import pytest
from rich.cells import cell_len

from workbench.formatting import clock, distinct_names, duration, rate, shortened, size, to_csv

CELLS = [f"fd_temp-fd.weight={weight} scale=20-s{seed}" for weight in (10, 100, 1000) for seed in (0, 1)]


def test_long_names_lose_their_common_prefix_and_stay_distinct() -> None:
    shown = distinct_names(CELLS, 16)
    assert len(set(shown)) == len(CELLS)
    assert all((cell_len(name) <= 16 and name.startswith("…weight=")) or "…" in name for name in shown)
    assert [name[-2:] for name in shown] == ["s0", "s1"] * 3


def test_short_names_and_a_single_name_keep_their_prefix() -> None:
    assert distinct_names(["clip-kd-s0", "clip-kd-s1"], 16) == ["clip-kd-s0", "clip-kd-s1"]
    assert distinct_names(["clip-kd-very-long-name-s0"], 16) == [shortened("clip-kd-very-long-name-s0", 16)]
    assert distinct_names([], 16) == []
    assert distinct_names(["a" * 20, "a" * 20 + "b"], 8) == ["aaa…aaaa", "aaa…aaab"]


def test_a_name_is_shortened_in_its_middle() -> None:
    assert shortened("abcdefgh", 8) == "abcdefgh"
    assert shortened("abcdefgh", 5) == "ab…gh"
    assert cell_len(shortened("\N{FOX FACE}" * 9, 8)) <= 8


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


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 bytes"),
        (512, "512 bytes"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_951, "10 kB"),
        (999_400, "999 kB"),
        (999_600, "1.0 MB"),
        (27_648_000, "28 MB"),
        (95e9, "95 GB"),
        (4_000e9, "4,000 GB"),
    ],
)
def test_sizes_as_text(num_bytes: float, text: str) -> None:
    assert size(num_bytes) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0 s"), (59, "59 s"), (90, "1.5 min"), (7_200, "2.0 h")])
def test_durations_as_text(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("per_s", "text"), [(0.004, "0.00"), (0.43, "0.43"), (0.996, "1.0"), (5.24, "5.2"), (9.96, "10"), (1234.4, "1,234")]
)
def test_a_rate_has_two_digits_at_least(per_s: float, text: str) -> None:
    assert rate(per_s) == f"{text} pairs/s"


@pytest.mark.parametrize("time_s", [math.nan, math.inf, -math.inf, 1e300])
def test_a_time_that_is_no_date_is_dashes(time_s: float) -> None:
    assert clock(time_s) == "--:--:--"
