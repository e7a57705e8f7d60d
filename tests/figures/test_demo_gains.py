import pytest

from workbench.figures.demo import gains_figure
from workbench.figures.style import FAINT, INK
from workbench.statistics.intervals import seed_gain
from workbench.views.results import PairedView, ResultRow, paired_view

METRICS = ("image_to_text_r1", "text_to_image_r1")
BASELINE = [0.30, 0.28, 0.33]
FINAL = {"fd": [0.44, 0.45, 0.47], "gd": [0.31, 0.27, 0.33], "crd": [0.36, 0.35, 0.38]}


@pytest.fixture
def views() -> dict[str, list[PairedView]]:
    def rows(model: str, values: list[float]) -> list[ResultRow]:
        return [ResultRow(model, seed, dict.fromkeys(METRICS, value)) for seed, value in enumerate(values)]

    return {
        recipe: [
            paired_view(
                rows("baseline", BASELINE) + rows(recipe, values),
                metric,
                "baseline",
                recipe,
                seed_gain(BASELINE, values),
            )
            for metric in METRICS
        ]
        for recipe, values in FINAL.items()
    }


def test_every_recipe_has_its_mean_interval_and_seeds(views) -> None:
    left, right = gains_figure(views).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["gd", "crd", "fd"]  # the best on top
    for axes in (left, right):
        lines = axes.get_lines()
        for row, recipe in enumerate(["gd", "crd", "fd"]):
            interval, seeds, mean = lines[3 * row : 3 * row + 3]
            gain = views[recipe][0].gain
            assert list(interval.get_xdata()) == pytest.approx([100 * gain.low, 100 * gain.high])
            assert list(seeds.get_xdata()) == pytest.approx([100 * each for each in gain.per_seed])
            assert float(mean.get_xdata()[0]) == pytest.approx(100 * gain.mean)
            assert set(interval.get_ydata()) == {row}
    assert left.get_xlabel() == "gain over baseline (points)"


def test_a_gain_whose_interval_holds_zero_is_faint(views) -> None:
    lines = gains_figure(views).axes[0].get_lines()
    assert lines[0].get_color() == FAINT  # gd
    assert lines[6].get_color() == INK  # fd
