"""Figures of a study against its table, with missing values."""

import pytest

from workbench.figures.study import differences_figure, study_figure
from workbench.statistics.intervals import seed_gain, seed_mean
from workbench.views.metrics import metric_label
from workbench.views.study import Entry, Replicate, StudyCell, StudyTable

METRIC = metric_label("image_to_text_r1")
VALUES = {"0": [0.30, 0.28, 0.33], "10": [0.36, 0.35, 0.38], "100": [0.40, 0.38, 0.43]}
PAPER = {"0": 31.0, "10": 33.0, "100": 34.0, "1000": None}


def table(*, series: bool = True, paper: bool = True) -> StudyTable:
    """Three cells with three seeds each, and one that is missing."""
    cells, entries = [], {}
    for name, figure in PAPER.items():
        seeds = tuple(Replicate(seed, "finished" if name in VALUES else "missing") for seed in range(3))
        cells.append(StudyCell(name, {"loss.fd.weight": float(name)} if series else {}, seeds))
        published = figure if paper else None
        gained = None if published is None or name == "0" else published - 31.0
        if name in VALUES:
            gain = None if name == "0" else seed_gain(VALUES["0"], VALUES[name])
            verdict = {"10": "no difference seen", "100": "better"}.get(name, "")
            entries[name] = {METRIC.name: Entry(seed_mean(VALUES[name]), gain, 0.01, verdict, published, gained)}
        else:
            entries[name] = {METRIC.name: Entry(paper=published)}
    return StudyTable("mine", "Which?", "0", "test", (METRIC,), tuple(cells), entries, "A paper")


def dots(axes, marker: str) -> list[tuple[float, float]]:
    lines = [line for line in axes.get_lines() if line.get_marker() == marker]
    return [pair for line in lines for pair in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def test_a_series_has_every_seed_and_the_paper_below_on_its_own_axis():
    ours, paper = study_figure(table()).axes
    found = [(round(x), y) for x, y in dots(ours, "o")]
    for place, values in enumerate(VALUES.values()):
        for value in [*values, sum(values) / 3]:
            assert any(x == place and y == pytest.approx(100 * value) for x, y in found)
    assert dots(paper, "D") == [(0, 31.0), (1, 33.0), (2, 34.0)]
    assert [text.get_text() for text in paper.get_xticklabels()] == list(PAPER)
    assert [text.get_text() for text in ours.texts] == ["missing"]
    assert ours.get_ylabel() == "ours (%)"


def test_an_interval_wider_than_the_axes_is_dotted():
    wide = table()
    wide.entries["10"][METRIC.name] = Entry(seed_mean([0.30, 0.42]))
    lines = [line for line in study_figure(wide).axes[0].get_lines() if len(set(line.get_xdata())) == 1]
    intervals = {line.get_xdata()[0]: line.get_linestyle() for line in lines if len(line.get_xdata()) == 2}
    assert intervals[1] != "-"
    assert intervals[0] == "-"


@pytest.mark.parametrize("paper", [True, False])
def test_named_cells_are_rows_from_the_top(paper):
    figure = study_figure(table(series=False, paper=paper))
    assert len(figure.axes) == 1 + paper
    labels = zip(figure.axes[0].get_yticks(), figure.axes[0].get_yticklabels(), strict=True)
    assert [label.get_text() for _, label in sorted(labels, key=lambda one: -one[0])] == list(PAPER)


def test_differences_are_drawn_with_the_papers():
    (axes,) = differences_figure(table()).axes
    labels = {label.get_text(): place for place, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)}
    assert "0" not in labels
    assert {round(x, 3): round(y) for x, y in dots(axes, "D")} == {2: labels["10"], 3: labels["100"]}
    means = [line for line in axes.get_lines() if line.get_marker() == "o" and line.get_markersize() == 6]
    filled = {round(float(line.get_ydata()[0])): line.get_markerfacecolor() != "white" for line in means}
    assert filled == {labels["10"]: False, labels["100"]: True}


def test_of_two_cells_with_long_names_no_word_is_cut():
    first, second = "a text tower, from scratch", "a text tower, inherited"
    entries = {
        first: {METRIC.name: Entry(seed_mean(VALUES["0"]))},
        second: {METRIC.name: Entry(seed_mean(VALUES["10"]), seed_gain(VALUES["0"], VALUES["10"]), 0.01, "better")},
    }
    cells = tuple(StudyCell(name, {}, tuple(Replicate(seed, "finished") for seed in range(3))) for name in entries)
    figure = differences_figure(StudyTable("mine", "Which?", first, "test", (METRIC,), cells, entries))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert axes.get_xlabel().replace("\n", " ") == f"difference from {first} (points)"
    (key,) = figure.legends
    for text in [axes.xaxis.label, axes.yaxis.label, *axes.get_yticklabels(), *key.get_texts()]:
        box = text.get_window_extent()
        assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 <= box.y1 <= figure.bbox.y1, text


def test_nothing_to_draw_is_an_error():
    empty = StudyTable("mine", "?", "", "test", (METRIC,), (StudyCell("a", {}, (Replicate(0),)),), {"a": {}})
    for draw in (study_figure, differences_figure):
        with pytest.raises(ValueError, match="study 'mine'"):
            draw(empty)
