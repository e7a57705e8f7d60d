"""Figure 8: lengths, places and colors of the bars, against the shapes that they stand for."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import same_color

from workbench.config.inheritance import TowerShape
from workbench.figures.architecture import (
    CHANNELS,
    EDGE,
    EMBEDDING,
    HEADS,
    MIDDLE,
    architecture_figure,
    mask_timeline_figure,
    pruned_figure,
    threshold_figure,
)
from workbench.figures.style import save_figure
from workbench.views.architecture import Architecture, TowerChange
from workbench.views.curves import Series
from workbench.views.masks import Densities, MaskTimeline, Pruned, PrunedPoint
from workbench.views.metrics import metric_label

BEFORE = TowerShape(width=100, head_width=2, heads=(4, 4, 4), channels=(200, 200, 200))
AFTER = TowerShape(width=25, head_width=2, heads=(1, 0, 4), channels=(50, 0, 200))
ODD = TowerShape(width=10, head_width=2, heads=(4, 0), channels=(8, 4))


def bars(axes: Axes, color: str, solid: bool) -> list[tuple[float, float, float]]:
    """(row, start, length) of the bars of one color."""
    found = []
    for bar in axes.patches:
        if same_color(bar.get_facecolor()[:3], color) and (bar.get_facecolor()[3] == 1) == solid:
            found.append((bar.get_y() + bar.get_height() / 2, bar.get_x(), bar.get_width()))
    return found


def text_of(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_bars_are_as_long_as_the_kept_shares() -> None:
    axes = architecture_figure(Architecture({"image": TowerChange(BEFORE, AFTER)})).axes[0]
    for color, sign, kept in ((HEADS, -1, (0.25, 0, 1)), (CHANNELS, 1, (0.25, 0, 1))):
        np.testing.assert_allclose(
            bars(axes, color, solid=True), [(row, sign * MIDDLE, sign * share) for row, share in enumerate(kept, 1)]
        )
        np.testing.assert_allclose(bars(axes, color, solid=False), [(row, sign * MIDDLE, sign) for row in (1, 2, 3)])
    assert bars(axes, EMBEDDING, solid=True) == [pytest.approx((0, -EDGE, 2 * EDGE / 4))]
    assert bars(axes, EMBEDDING, solid=False) == [pytest.approx((0, -EDGE, 2 * EDGE))]


def test_numbers_and_titles_match_the_bars() -> None:
    figure = architecture_figure(Architecture({"image": TowerChange(BEFORE, AFTER)}, "stage 1, step 10, masks fixed"))
    (axes,) = figure.axes
    texts = text_of(axes)
    assert {"heads, of 4", "FFN channels, of 200", "embedding channels, of 100", "layer"} <= set(texts)
    assert {"0", "1", "2", "50", "25"} <= set(texts)
    assert axes.get_title(loc="left") == "Image tower: 130 k to 13.5 k weights (10%)"
    key = [text.get_text() for text in figure.legends[0].get_texts()]
    assert key == ["teacher", "student: stage 1, step 10, masks fixed"]


def test_a_teacher_whose_layers_differ_has_its_counts_too() -> None:
    axes = architecture_figure(Architecture({"text": TowerChange(ODD, ODD)})).axes[0]
    assert {"4/4", "0/0", "8/8", "heads", "FFN channels"} <= set(text_of(axes))
    assert len([bar for bar in bars(axes, HEADS, solid=False) if not np.isnan(bar[2])]) == 1


def test_a_removed_layer_is_faint() -> None:
    axes = architecture_figure(Architecture({"image": TowerChange(BEFORE, AFTER)})).axes[0]
    ink = {text.get_text(): text.get_color() for text in axes.texts if text.get_position()[0] == 0}
    assert ink["1"] != ink["0"] == ink["2"]


def test_towers_have_one_scale() -> None:
    deep = TowerShape(width=4, head_width=2, heads=(2,) * 24, channels=(8,) * 24)
    figure = architecture_figure(Architecture({"image": TowerChange(deep, deep), "text": TowerChange(ODD, ODD)}))
    image, text = figure.axes
    assert np.ptp(image.get_ylim()) == pytest.approx(np.ptp(text.get_ylim()))
    assert image.get_position().height == pytest.approx(text.get_position().height)
    single = architecture_figure(Architecture({"text": TowerChange(ODD, ODD)}))
    assert figure.get_size_inches()[0] == 2 * single.get_size_inches()[0]
    assert figure.get_size_inches()[1] > single.get_size_inches()[1]


def test_nothing_is_cut_off_at_any_size() -> None:
    for layers in (1, 4, 12, 24):
        shape = TowerShape(width=1024, head_width=64, heads=(16,) * layers, channels=(4096,) * layers)
        figure = architecture_figure(Architecture({tower: TowerChange(shape, shape) for tower in ("image", "text")}))
        size = figure.bbox
        for axes in figure.axes:
            for text in [*axes.texts, axes.title, axes._left_title]:
                box = text.get_window_extent()
                assert box.x0 >= -1 and box.x1 <= size.x1 + 1 and box.y0 >= -1 and box.y1 <= size.y1 + 1, text


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        architecture_figure(Architecture({}))


def test_the_same_view_gives_the_same_bytes(tmp_path: Path) -> None:
    view = Architecture({"image": TowerChange(BEFORE, AFTER)})
    first, second = (save_figure(architecture_figure(view), tmp_path / f"{name}.svg") for name in "ab")
    assert first.read_bytes() == second.read_bytes()


STEPS = np.array([0, 10, 20, 60])


def view(towers: tuple[str, ...] = ("image", "text"), layers: int = 3) -> MaskTimeline:
    share_KN = np.linspace(0, 1, layers * 4).reshape(layers, 4)
    return MaskTimeline(
        Series(STEPS, np.array([0, 0.1, 0.25, 0.5])),
        Series(STEPS, np.array([0, 0.2, 0.25, 0.5])),
        np.array([True, True, False, False]),
        np.array([1, 1, 1, 2]),
        {tower: Densities(share_KN[0], share_KN, 1 - share_KN) for tower in towers},
    )


def test_sparsity_and_target_are_in_per_cent_over_the_steps() -> None:
    top = mask_timeline_figure(view()).axes[0]
    lines = {line.get_label(): line for line in top.get_lines()}
    assert list(lines["sparsity"].get_ydata()) == [0, 10, 25, 50]
    assert list(lines["target"].get_ydata()) == [0, 20, 25, 50]
    assert list(lines["target"].get_xdata()) == STEPS.tolist()
    assert [text.get_text() for text in top.texts] == ["stage 1", "stage 2"]
    assert [(patch.get_x(), patch.get_width()) for patch in top.patches] == [(0, 10), (10, 10)]


def test_every_layer_has_its_shade_at_every_step() -> None:
    figure = mask_timeline_figure(view(("text",)))
    _, embedding, heads, channels = figure.axes[:4]
    shares = view().towers["text"]
    for axes, share_KN, color in (
        (embedding, shares.embedding_N[None], EMBEDDING),
        (heads, shares.heads_KN, HEADS),
        (channels, shares.channels_KN, CHANNELS),
    ):
        (mesh,) = axes.collections
        np.testing.assert_allclose(np.reshape(mesh.get_array(), share_KN.shape), 100 * share_KN)
        assert mesh.get_clim() == (0, 100)
        assert mesh.cmap(1.0)[:3] == pytest.approx([int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)])
        assert mesh.cmap(0.0)[:3] == (1, 1, 1)
        assert axes.get_xlim() == (0, 60)
        assert axes.get_ylim() == (-0.5, len(share_KN) - 0.5)


def test_more_layers_make_a_taller_figure_and_no_tower_none_at_all() -> None:
    few, many = (mask_timeline_figure(view(layers=layers)).get_size_inches()[1] for layers in (3, 24))
    assert many > few
    assert len(mask_timeline_figure(view(())).axes) == 1


def test_pruning_is_in_per_cent_hollow_while_masks_are_learned() -> None:
    points = (PrunedPoint(1, 1, True, 0.1, 0.9), PrunedPoint(2, 1, False, 0.25, 0.8))
    axes = pruned_figure(Pruned(metric_label("image_to_text_r1"), "validation", points)).axes[0]
    assert axes.get_lines()[0].get_xydata().tolist() == [[10, 90], [25, 80]]
    assert [line.get_markerfacecolor() == "white" for line in axes.get_lines()[1:]] == [True, False]
    axes = threshold_figure(np.array([0.0, 0.5, 1.0]), np.array([1.0, 0.6, 0.2]), 0.7, 0.55).axes[0]
    assert "60.0 %" in [text.get_text() for text in axes.texts]
