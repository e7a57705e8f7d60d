"""The masks over time: lines and shades, against the numbers that they stand for."""

import numpy as np
import pytest

from workbench.figures.architecture import CHANNELS, EMBEDDING, HEADS
from workbench.figures.mask_timeline import mask_timeline_figure
from workbench.views.curves import Series
from workbench.views.mask_timeline import Densities, MaskTimeline

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
    for axes, share_KN, colour in (
        (embedding, shares.embedding_N[None], EMBEDDING),
        (heads, shares.heads_KN, HEADS),
        (channels, shares.channels_KN, CHANNELS),
    ):
        (mesh,) = axes.collections
        np.testing.assert_allclose(np.reshape(mesh.get_array(), share_KN.shape), 100 * share_KN)
        assert mesh.get_clim() == (0, 100)
        assert mesh.cmap(1.0)[:3] == pytest.approx([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
        assert mesh.cmap(0.0)[:3] == (1, 1, 1)
        assert axes.get_xlim() == (0, 60)
        assert axes.get_ylim() == (-0.5, len(share_KN) - 0.5)


def test_more_layers_make_a_taller_figure_and_no_tower_none_at_all() -> None:
    few, many = (mask_timeline_figure(view(layers=layers)).get_size_inches()[1] for layers in (3, 24))
    assert many > few
    assert len(mask_timeline_figure(view(())).axes) == 1
