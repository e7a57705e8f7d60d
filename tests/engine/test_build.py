from pathlib import Path

import pytest

from workbench.config.run import DataConfig
from workbench.data.spec import evaluated_splits
from workbench.engine.build import build_cohort
from workbench.engine.launch import launch


@pytest.mark.parametrize(
    ("data", "splits"),
    [
        ({}, [("validation", "samples:scenes", 0), ("test", "samples:scenes", 0)]),
        ({"train": "samples:emoji/teacher", "test": ""}, [("validation", "samples:emoji", 0)]),
        ({"train": "pairs.tar"}, []),
        ({"train": "pairs.tar", "validation": "held.tar", "num_validation_pairs": 7}, [("validation", "held.tar", 7)]),
    ],
)
def test_auto_is_the_sample_sets_own_split_and_nothing_elsewhere(data: dict, splits: list) -> None:
    assert evaluated_splits(DataConfig(**data)) == splits


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"batch_size": 100}}, "a batch of 100 needs as many pairs, and the data have 60"),
        ({"student": {"model": "mini-w65"}}, "did you mean 'mini-w"),
        ({"teacher": {"model": ""}}, "needs|compares with a teacher"),
        ({"data": {"train": "nowhere.tar"}}, "no such data 'nowhere.tar'"),
        ({"train": {"device": "cuda"}}, "no GPU"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_no_run_behind(tiny, tmp_path: Path, changes: dict, message: str) -> None:
    import torch

    if changes.get("train", {}).get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU, so asking for one is no error")
    with pytest.raises(ValueError, match=message):
        launch({"run": tiny(**changes)}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cohort_shares_its_data(tiny) -> None:
    with pytest.raises(ValueError, match=r"run b differs from its cohort in \[data\]"):
        build_cohort({"a": tiny(), "b": tiny(data={"seed": 1})})


def test_data_without_held_out_pairs_is_warned_of(tiny) -> None:
    cohort = build_cohort({"run": tiny(data={"validation": ""})})
    assert any("nothing is evaluated" in getattr(event, "message", "") for event in cohort.announce())


def test_widths_differ_only_where_a_projection_bridges_them(tiny) -> None:
    (member,) = build_cohort({"run": tiny()}).members
    assert member.state.learnt.projections["image"].weight.shape == (24, 16)
