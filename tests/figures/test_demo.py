import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image, ImageChops, ImageStat

from workbench.figures import style
from workbench.figures.demo import demo_figure, gains_figure
from workbench.figures.style import FAINT, INK, KNOWN, save_figure
from workbench.statistics.intervals import seed_gain
from workbench.views.curves import Curves, Series, learning_view
from workbench.views.results import PairedView, ResultRow, paired_view

METRICS = ("image_to_text_r1", "text_to_image_r1")
FINAL = {"baseline": [0.30, 0.28, 0.33], "clip-kd": [0.44, 0.45, 0.47]}


def curve(final: float) -> Curves:
    step = np.arange(0, 601, 100)
    series = Series(step, final * step / 600)
    return Curves("run", series, {}, {"validation": {METRICS[0]: series}})


def pairs() -> list[PairedView]:
    rows = [
        ResultRow(model, seed, {METRICS[0]: value, METRICS[1]: value + 0.02})
        for model, values in FINAL.items()
        for seed, value in enumerate(values)
    ]
    gain = seed_gain(FINAL["baseline"], FINAL["clip-kd"])
    return [paired_view(rows, metric, "baseline", "clip-kd", gain) for metric in METRICS]


@pytest.fixture(scope="module")
def figure() -> Figure:
    runs = {model: [curve(value) for value in values] for model, values in FINAL.items()}
    return demo_figure(learning_view(runs, METRICS[0], "validation", teacher=0.85), pairs())


def test_learning_curves_show_every_seed_the_bold_mean_and_the_teacher(figure: Figure) -> None:
    lines = figure.axes[0].get_lines()
    for model, values in FINAL.items():
        own = [line for line in lines if line.get_color() == KNOWN[model]]
        ends = [float(line.get_ydata()[-1]) for line in own]
        assert ends == pytest.approx([*(100 * value for value in values), 100 * np.mean(values)])
        assert own[-1].get_linewidth() > 2 > max(line.get_linewidth() for line in own[:-1])
    assert lines[-1].is_dashed()
    assert figure.axes[0].get_ylabel() == "image→text R@1 (%)"
    assert figure.axes[0].get_ylim()[0] == 0


def test_a_teacher_far_above_is_named_beyond_a_break(figure: Figure) -> None:
    axes = figure.axes[0]
    top = axes.get_ylim()[1]
    heights = [float(height) for height in axes.get_lines()[-1].get_ydata()]
    assert heights[0] == heights[1] == axes.get_yticks()[-1]
    # The highest student, 47 %, is near the top, and its teacher of 85 % between it and the top.
    assert 0.75 * top < 47 < heights[0] < top < 85
    *ticks, last = [label.get_text() for label in axes.get_yticklabels()]
    assert (last, [float(tick) for tick in ticks]) == ("85", list(axes.get_yticks()[:-1]))
    assert max(map(float, ticks)) <= 47


def test_a_teacher_nearby_is_on_the_same_axis() -> None:
    runs = {model: [curve(value) for value in values] for model, values in FINAL.items()}
    axes = demo_figure(learning_view(runs, METRICS[0], "validation", teacher=0.6), pairs()).axes[0]
    assert list(axes.get_lines()[-1].get_ydata()) == [60.0, 60.0]
    assert axes.get_ylim()[1] > 60


def test_names_stand_at_the_ends_of_their_curves(figure: Figure) -> None:
    places = {text.get_text().strip(): text.get_position() for text in figure.axes[0].texts}
    assert places["teacher"] == (600, figure.axes[0].get_yticks()[-1])
    assert places["clip-kd"] == (600, pytest.approx(100 * np.mean(FINAL["clip-kd"])))


def test_names_of_equal_models_do_not_overlap() -> None:
    runs = {model: [curve(0.4)] for model in FINAL}
    axes = demo_figure(learning_view(runs, METRICS[0], "validation", teacher=0.41), pairs()).axes[0]
    heights = sorted(text.get_position()[1] for text in axes.texts)
    assert np.diff(heights).min() > 0.055 * axes.get_ylim()[1]


def test_pairs_are_joined_by_seed_with_the_gain_above(figure: Figure) -> None:
    axes = figure.axes[1]
    joined = [line.get_ydata().tolist() for line in axes.get_lines() if line.get_linewidth() == 0.9]
    expected = [
        [100 * (before + shift), 100 * (after + shift)]
        for shift in (0, 0.02)
        for before, after in zip(*FINAL.values(), strict=True)
    ]
    assert np.array(joined) == pytest.approx(np.array(expected))
    texts = [text.get_text() for text in axes.texts]
    assert texts[::2] == ["+15.0 points"] * 2
    assert re.fullmatch(r"95 %: \+\d+\.\d to \+\d+\.\d", texts[1])
    assert axes.get_ylim()[1] > 100 * 0.49 + 2  # the text stands above every dot


@pytest.mark.parametrize(("suffix", "head"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_saving_makes_the_folder_and_gives_the_same_bytes_again(
    figure: Figure, tmp_path: Path, suffix: str, head: bytes
) -> None:
    first = save_figure(figure, tmp_path / "new" / f"a{suffix}").read_bytes()
    assert first.startswith(head)
    assert save_figure(figure, tmp_path / f"b{suffix}").read_bytes() == first


def test_a_small_png_is_the_same_image_in_a_quarter_of_the_bytes(
    figure: Figure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, again = (save_figure(figure, tmp_path / name, small=True) for name in ("b.png", "c.png"))
    assert again.read_bytes() == small.read_bytes()
    assert 4 * small.stat().st_size < save_figure(figure, tmp_path / "large.png").stat().st_size
    monkeypatch.setattr(style, "DOTS_PER_INCH", style.SMALL_DOTS_PER_INCH)
    with Image.open(small) as few, Image.open(save_figure(figure, tmp_path / "full.png")) as full:
        assert len(few.getcolors()) <= style.SMALL_COLORS
        assert ImageStat.Stat(ImageChops.difference(full.convert("RGB"), few.convert("RGB"))).mean < [1, 1, 1]


def test_a_png_is_8_by_3_4_inches_and_not_empty(figure: Figure, tmp_path: Path) -> None:
    with Image.open(save_figure(figure, tmp_path / "demo.png")) as image:
        assert image.size == (1600, 680)
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
        colors = {color for _, color in image.convert("RGB").getcolors(2**20) or []}
    assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= colors


def test_another_suffix_is_an_error(figure: Figure, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown figure format '.pngg': did you mean '.png'\?"):
        save_figure(figure, tmp_path / "demo.pngg")


def test_no_pyplot_figure_is_left_open(figure: Figure) -> None:
    from matplotlib import pyplot

    assert figure.axes
    assert pyplot.get_fignums() == []


def test_importing_views_statistics_and_figures_is_light() -> None:
    code = (
        "import sys, workbench.figures.demo, workbench.figures.style, workbench.statistics.intervals, "
        "workbench.views.results, workbench.views.curves, workbench.views.results; "
        "print(sorted({'torch', 'seaborn', 'matplotlib', 'scipy', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


RECIPES = {"fd": [0.44, 0.45, 0.47], "gd": [0.31, 0.27, 0.33], "crd": [0.36, 0.35, 0.38]}


@pytest.fixture
def views() -> dict[str, list[PairedView]]:
    def rows(model: str, values: list[float]) -> list[ResultRow]:
        return [ResultRow(model, seed, dict.fromkeys(METRICS, value)) for seed, value in enumerate(values)]

    return {
        recipe: [
            paired_view(
                rows("baseline", FINAL["baseline"]) + rows(recipe, values),
                metric,
                "baseline",
                recipe,
                seed_gain(FINAL["baseline"], values),
            )
            for metric in METRICS
        ]
        for recipe, values in RECIPES.items()
    }


def test_every_recipe_has_its_mean_interval_and_seeds(views) -> None:
    left, right = gains_figure(views).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["gd", "crd", "fd"]  # the best on top
    for axes in (left, right):
        lines = axes.get_lines()
        for row, recipe in enumerate(["gd", "crd", "fd"]):
            interval, mean, seeds = lines[3 * row : 3 * row + 3]
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
