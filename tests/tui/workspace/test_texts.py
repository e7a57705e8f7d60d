"""Settings of many runs: a column for each run where they fit, else a row for each."""

import re

from workbench.tui.charts.plot import LETTERS
from workbench.tui.workspace.texts import settings_text
from workbench.views.comparison import ComparedRun, compare_runs


def comparison(num_runs: int):
    def settings(number: int) -> dict[str, object]:
        return {"loss": {"fd": {"weight": 100 * number}, "icl": {"weight": number}}, "train": {"batch_size": 64}}

    return compare_runs([ComparedRun(f"run-{number}", settings(number)) for number in range(num_runs)])


def test_few_runs_have_a_column_each() -> None:
    lines = settings_text(comparison(3), "abc", 80).plain.splitlines()
    assert lines[1].split() == ["a", "b", "c"]
    assert lines[2].split() == ["fd.weight", "0", "100", "200"]
    assert re.search(r"batch_size +64$", "\n".join(lines), re.MULTILINE)


def test_many_runs_have_a_row_each_and_nothing_is_wider_than_the_screen() -> None:
    lines = settings_text(comparison(20), LETTERS[:20], 40).plain.splitlines()
    assert lines[1].split() == ["fd.weight", "icl.weight"]
    assert lines[3].split() == ["b", "100", "1"]
    assert lines[21].split() == ["t", "1900", "19"]
    narrow = settings_text(comparison(20), LETTERS[:20], 18).plain.splitlines()
    assert narrow[1].split() == ["fd.weight"]
    assert ["icl.weight"] in [line.split() for line in narrow]
    assert max(map(len, narrow[1:42])) <= 18
