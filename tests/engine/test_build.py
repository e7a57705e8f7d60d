from pathlib import Path

import pytest

from workbench.config.run import DataConfig
from workbench.data.spec import evaluated_splits
from workbench.engine.build import build_cohort, teacher_rows
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
        ({"train": {"batch_size": 100}}, "a batch of 100 needs as many pairs, but the data have 60"),
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
    assert member.state.learned.projections["image"].weight.shape == (24, 16)


@pytest.mark.parametrize(
    ("chunk_size", "batch_size", "rows"),
    [(256, 100, 100), (100, 8, 12), (256, 4, 4), (256, 5, 12), (256, 12, 12), (16, 100, 16), (8, 8, 8)],
)
def test_the_teacher_computes_no_more_rows_than_a_batch_fills(
    tiny, chunk_size: int, batch_size: int, rows: int
) -> None:
    config = tiny(teacher={"chunk_size": chunk_size}, train={"batch_size": batch_size})
    assert teacher_rows(config) == rows


def test_the_teachers_forward_is_as_small_as_the_batch(tiny) -> None:
    cohort = build_cohort({"run": tiny(teacher={"chunk_size": 256}, train={"batch_size": 14})})
    shapes = []
    cohort.teacher._model.towers.visual.register_forward_pre_hook(lambda _, inputs: shapes.append(len(inputs[0])))
    cohort.teacher_forward(cohort.stream.batch(0), 0)
    assert shapes == [14]


def test_a_teacher_is_used_again_only_for_forwards_of_the_same_size(tiny) -> None:
    first, same, other = (tiny(teacher={"chunk_size": 256}, train={"batch_size": size}) for size in (20, 20, 14))
    cohort = build_cohort({"run": first})
    assert build_cohort({"run": same}, like=cohort).teacher is cohort.teacher
    assert build_cohort({"run": other}, like=cohort).teacher.chunk_size == 14
