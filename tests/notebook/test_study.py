from pathlib import Path

import pytest

from workbench.notebook import StudyExplorer
from workbench.resources import find_resource

RESULTS = find_resource("studies/results/fd_weight")
pytestmark = pytest.mark.skipif(RESULTS is None, reason="no results of this study ship")


def test_shipped_results_are_read_as_reported(tmp_path: Path) -> None:
    explorer = StudyExplorer("fd_weight", runs_dir=tmp_path)
    assert explorer.error is None
    assert explorer.report is None
    lines = [line.split(",") for line in (RESULTS / "cells.csv").read_text().splitlines()]
    head = lines[0]
    for line in lines[1:]:
        of = dict(zip(head, line, strict=True))
        cell = next(cell for cell in explorer.table.cells if cell.name == of["cell"])
        metric = next(metric for metric in explorer.table.metrics if metric.name == of["metric"])
        entry = explorer.table.entry(cell, metric)
        assert (entry.mean is None) == (of["mean"] == "")
        if entry.mean:
            assert metric.factor * entry.mean.mean == pytest.approx(float(of["mean"]))
            assert len(entry.mean.per_seed) == int(of["num_seeds"])
            assert sum(entry.mean.per_seed) / len(entry.mean.per_seed) == pytest.approx(entry.mean.mean, rel=1e-4)
        assert entry.verdict == of["verdict"]
        if entry.gain:
            assert sum(entry.gain.per_seed) / len(entry.gain.per_seed) == pytest.approx(entry.gain.mean, abs=1e-5)


def test_a_brush_selects_cells(tmp_path: Path) -> None:
    explorer = StudyExplorer("fd_weight", show="parallel", runs_dir=tmp_path)
    everything = [one["cell"] for one in explorer.selection]
    assert everything == [cell.name for cell in explorer.table.cells]
    brush = explorer.brushes["image_to_text_r1"]
    brush.value = ((brush.min + brush.max) / 2, brush.max)
    kept = explorer.selection
    assert 0 < len(kept) < len(everything)
    assert min(one["image_to_text_r1"] for one in kept) >= (brush.min + brush.max) / 2


def test_the_front_is_of_the_two_chosen_metrics(tmp_path: Path) -> None:
    explorer = StudyExplorer("fd_weight", show="trade-off", runs_dir=tmp_path)
    explorer.upward.value, explorer.across.value = "zero_shot_top1", "image_to_text_r1"
    best = max(explorer.table.cells, key=lambda cell: explorer._means(cell)["zero_shot_top1"]).name
    assert best in [point.cell for point in explorer.front if point.on_front]
    assert explorer.figure.axes[0].get_ylabel() == "test zero-shot top-1 (%)"


def test_only_figures_with_data_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explorer = StudyExplorer("fd_weight", runs_dir=tmp_path)
    assert list(explorer.show.options) == ["cells", "differences", "parallel", "trade-off"]
    assert "reported results" in StudyExplorer("fd_weight", show="learning", runs_dir=tmp_path).message.value
    with pytest.raises(ValueError, match="forecast"):
        StudyExplorer("fd_weight", show="forcast", runs_dir=tmp_path)
    assert "fd_weight" in StudyExplorer("fd_weihgt", runs_dir=tmp_path).message.value
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "mine.toml").write_text('question = "?"\ngrid.loss.clip.weight = [1, 2]\n')
    assert "workbench sweep" in StudyExplorer("mine", runs_dir=tmp_path).message.value


def test_a_torn_report_is_an_error_line(tmp_path: Path) -> None:
    for name, text in (("cells.csv", (RESULTS / "cells.csv").read_text()), ("runs.csv", "run,cell\n1,2\n")):
        (tmp_path / name).write_text(text)
    explorer = StudyExplorer(tmp_path)
    assert "columns missing" in explorer.message.value
    (tmp_path / "runs.csv").write_bytes(b"\xff\xfe\x00")
    explorer.refresh()
    assert "not UTF-8" in explorer.message.value
