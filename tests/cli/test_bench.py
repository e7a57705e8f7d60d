import json

import pytest

SMALL = ("bench", "losses", "--batch", "8", "--batch", "4", "--dim", "6")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few turns each: these tests ask what is printed, not how long it takes."""
    monkeypatch.setattr("workbench.bench.contest.ENOUGH_REPEATS", 2)


def test_losses_are_measured_at_growing_batches(workbench) -> None:
    result = workbench(*SMALL, "--case", "mixture", "--json")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    assert {"torch", "num_threads", "device"} <= document["machine"].keys()
    assert document["dim"] == 6
    forms = [(row["case"], row["size"]) for row in document["rows"]]
    assert forms[:2] == [("mixture, dense", 4), ("mixture, chunked 1", 4)]
    assert forms[2:] == [("mixture, dense", 8), ("mixture, chunked 2", 8)]
    for row in document["rows"]:
        assert row.keys() == {"case", "size", "time_s", "peak_mb", "ratio", "floor_ratio"}
        assert row["time_s"] > 0
        assert row["ratio"] > 0
        assert row["floor_ratio"] > 0


def test_what_is_not_measured_is_null(workbench) -> None:
    document = json.loads(workbench(*SMALL, "--case", "fd", "--straightforward-up-to", "4", "--json").out)
    assert [row["floor_ratio"] for row in document["rows"]] == [None] * 4
    assert [row["ratio"] is None for row in document["rows"]] == [False, False, True, True]


def test_the_table_goes_to_stdout_and_progress_to_stderr(workbench) -> None:
    result = workbench(*SMALL, "--case", "clip")
    assert "clip, chunked 2" in result.out
    assert "times faster" in result.out
    assert result.err.splitlines() == ["clip, B = 4", "clip, B = 8"]


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["--batch", "1"], "--batch must be at least 2"),
        (["--dim", "0"], "--dim must be at least 1"),
        (["--case", "mixtur"], "did you mean 'mixture'"),
        (["--device", "gpu"], "unknown device"),
    ],
)
def test_bad_input_is_one_line(workbench, arguments: list[str], remedy: str) -> None:
    result = workbench("bench", "losses", *arguments)
    assert result.code == 2
    assert remedy in result.err
    assert len(result.err.splitlines()) == 1
    assert result.out == ""


def test_help_shows_examples(workbench) -> None:
    assert "workbench bench losses --case mixture --batch 8192" in workbench("bench", "losses", "--help").out
