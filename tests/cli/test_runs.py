import json

import pytest


@pytest.fixture
def finished(workbench, tiny_recipe: str):
    assert workbench("train", "--recipe", tiny_recipe, "--name", "one").code == 0
    return workbench


def test_list_and_show_name_the_run_and_its_state(finished) -> None:
    assert "one  finished  12/12" in " ".join(finished("runs", "list").out.split("\n")).replace("   ", "  ")
    assert json.loads(finished("runs", "list", "--json").out)["runs"][0]["id"] == "one"
    shown = json.loads(finished("runs", "show", "one", "--json").out)
    assert [evaluation["step"] for evaluation in shown["evaluations"]] == [12]
    assert "finished at step 12 of 12" in finished("runs", "show", "one").out


def test_an_empty_folder_says_how_to_begin(workbench) -> None:
    assert "workbench train" in workbench("runs", "list").out


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["show", "onee"], "did you mean 'one'?"),
        (["stop", "one"], "finished"),
        (["resume", "one"], "nothing is left to train"),
    ],
)
def test_what_cannot_be_done_is_said(finished, arguments: list[str], remedy: str) -> None:
    result = finished("runs", *arguments)
    assert result.code == 2
    assert remedy in result.err


def test_evaluate_measures_a_finished_run(finished) -> None:
    result = finished("evaluate", "one", "--pairs", "40", "--json")
    document = json.loads(result.out)
    assert document.keys() >= {"source", "num_pairs", "metrics"}
    trained = json.loads(finished("runs", "show", "one", "--json").out)["metrics"]
    assert document["metrics"] == trained


def test_evaluate_needs_something_to_measure(workbench) -> None:
    result = workbench("evaluate", "nothing")
    assert result.code == 2
    assert "nothing" in result.err
