import numpy as np
import pytest

from workbench.figures.detections import COVER, ShownObjects, detections_figure


def objects(names, scores=(), masks=None):
    boxes = np.array([[2.0 * row, 1.0, 2.0 * row + 4, 6.0] for row in range(len(names))]).reshape(-1, 4)
    return ShownObjects(boxes, names, scores, masks)


def test_one_row_for_each_entry_and_one_column_for_each_image():
    images = [np.zeros((8, 9, 3), np.uint8)] * 3
    masks = np.zeros((1, 8, 9), bool)
    masks[0, 2, 3] = True
    rows = {
        "truth": [objects(["star"], masks=masks), objects([]), objects(["ring", "star"])],
        "run": [objects(["star"], [0.75]), objects(["ring"], [0.5]), objects([])],
    }
    figure = detections_figure(images, rows)
    grid = np.array(figure.axes).reshape(2, 3)
    assert [axes.get_ylabel() for axes in grid[:, 0]] == ["truth", "run"]
    assert [[len(axes.patches) for axes in row] for row in grid] == [[1, 0, 2], [1, 1, 0]]
    assert grid[1, 0].texts[0].get_text() == "star 0.75"
    assert grid[0, 2].texts[0].get_text() == "ring"
    star, found = grid[0, 0].patches[0], grid[1, 0].patches[0]
    assert star.get_edgecolor() == found.get_edgecolor() != grid[1, 1].patches[0].get_edgecolor()
    assert (star.get_x(), star.get_width(), star.get_height()) == (-0.5, 4, 5)
    canvas = np.asarray(grid[0, 0].images[0].get_array())
    np.testing.assert_allclose(canvas[2, 3], COVER * np.array(star.get_edgecolor()[:3]))
    assert canvas.sum() == pytest.approx(canvas[2, 3].sum())
