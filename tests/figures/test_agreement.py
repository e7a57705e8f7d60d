"""The forest plot of the agreement with published orders."""

import pytest

from workbench.figures.agreement import AgreementRow, agreement_figure
from workbench.statistics.rank_agreement import Agreement

ROWS = [
    AgreementRow("one, 80 steps", "zero-shot top-1", Agreement(0.8, 0.5, 0.9, 0.01, 0.001, 8)),
    AgreementRow("one, 80 steps", "image→text R@1", Agreement(-0.7, -0.9, -0.4, 0.02, 0.001, 8), "zero-shot top-1"),
    AgreementRow("two, 240 steps", "zero-shot top-1", Agreement(0.2, -0.3, 0.6, 0.4, 0.001, 6)),
]


def test_each_line_has_its_tau_its_interval_and_a_marker_for_its_verdict():
    figure = agreement_figure(ROWS)
    (axes,) = figure.axes
    dots = [line for line in axes.lines if line.get_marker() in "oD" and len(line.get_xdata()) == 1]
    assert [line.get_xdata()[0] for line in dots] == [0.8, -0.7, 0.2]
    assert [line.get_marker() for line in dots] == ["o", "D", "o"]
    assert [line.get_markerfacecolor() for line in dots][2] == "white"
    intervals = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2 and line.get_marker() == "None"]
    assert [0.5, 0.9] in [list(ends) for ends in intervals]
    heights = [line.get_ydata()[0] for line in dots]
    assert heights == sorted(heights)
    assert heights[2] - heights[1] > heights[1] - heights[0]  # a gap between studies
    text = " ".join(label.get_text() for label in [*axes.texts, *axes.get_yticklabels(), *figure.legends[0].texts])
    assert "+0.80 (+0.50 to +0.90), 8" in text
    assert "image→text R@1 \N{DAGGER}" in text
    assert "published: zero-shot top-1 alone" in text


def test_without_a_published_order_there_is_nothing_to_draw():
    with pytest.raises(ValueError, match="at least three cells with published values"):
        agreement_figure([])
