import json

import pytest

from workbench.cli.output import console


@pytest.fixture
def runs(workbench, tiny_recipe: str):
    """Two runs that differ in the weight of fd."""
    for name, weight in (("one", 5), ("two", 50)):
        arguments = ["--recipe", tiny_recipe, "--name", name, "--set", f"loss.fd.weight={weight}"]
        assert workbench("train", *arguments).code == 0
    return workbench


def widest(text: str) -> int:
    return max(map(len, text.splitlines()))


def test_two_runs_are_columns_with_their_difference(runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_width", 80)
    out = runs("runs", "compare", "one", "two").out
    lines = [line.split() for line in out.splitlines()]
    assert ["loss.fd.weight", "5", "50"] in lines
    assert ["settings", "that", "differ", "A", "B"] in lines
    assert not any(line[:1] == ["loss.crd.weight"] for line in lines)
    assert any(line[:3] == ["image→text", "R@1", "(%)"] and line.count("±") == 3 for line in lines)
    assert "usually too large" in out
    assert widest(out) <= 80


def test_more_runs_are_rows(runs, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"three": "loss.fd.weight=0", "four": "optimizer.learning_rate=1e-4"}
    for name, change in changes.items():
        assert runs("runs", "fork", "one", "--at", "8", "--set", change, "--name", name).code == 0
    three = runs("runs", "compare", "one", "two", "three").out
    assert ["settings", "that", "differ", "A", "B", "C"] in [line.split() for line in three.splitlines()]
    monkeypatch.setattr(console, "_width", 80)
    four = runs("runs", "compare", "one", "two", "three", "four").out
    assert "D  four: finished at step 12 of 12, forked from one at step 8" in four
    assert ["D", "5", "0.0001"] in [line.split() for line in four.splitlines()]
    assert widest(four) <= 80


def test_all_shows_what_is_the_same_too(runs) -> None:
    out = runs("runs", "compare", "one", "two", "--all").out
    assert out.index("loss.fd.weight") < out.index("settings that are the same") < out.index("train.batch_size")


def test_json_is_one_document(runs) -> None:
    document = json.loads(runs("runs", "compare", "one", "two", "--json").out)
    assert [run["id"] for run in document["runs"]] == ["one", "two"]
    assert document["settings"] == {"loss.fd.weight": [5.0, 50.0]}
    metric = document["splits"]["validation"]["metrics"]["image_to_text_r1"]
    assert document["splits"]["validation"]["same_pairs"] is True
    assert metric["differences"] == [0.0, pytest.approx(metric["values"][1] - metric["values"][0])]
    every = json.loads(runs("runs", "compare", "one", "two", "--json", "--all").out)
    assert len(every["settings"]) > 30


def test_runs_on_other_pairs_are_marked(runs, tiny_recipe: str) -> None:
    fewer = ["--set", "data.num_validation_pairs=30"]
    assert runs("train", "--recipe", tiny_recipe, "--name", "other", *fewer).code == 0
    assert "not all runs were evaluated on the same pairs" in runs("runs", "compare", "one", "other").out


@pytest.mark.parametrize(
    ("names", "line"), [(["one"], "two or more different runs"), (["one", "ne"], "did you mean 'one'")]
)
def test_what_cannot_be_compared_is_one_line(runs, names: list[str], line: str) -> None:
    result = runs("runs", "compare", *names)
    assert result.code == 2
    assert line in result.err
    assert len(result.err.splitlines()) == 1
