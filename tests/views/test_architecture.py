"""Figure 8's bars are shares of what there was, table 9's rows are means."""

import numpy as np

from workbench.config.shape import TowerShape
from workbench.views.architecture import means, remains

BEFORE = TowerShape(width=80, head_width=4, heads=(4, 4, 0), channels=(100, 50, 0))
AFTER = TowerShape(width=60, head_width=4, heads=(1, 4, 0), channels=(0, 25, 0))


def test_what_remains_is_a_share_layer_by_layer():
    left = remains(BEFORE, AFTER)
    assert left.embedding == 0.75
    np.testing.assert_allclose(left.heads_K, [0.25, 1, 0])
    np.testing.assert_allclose(left.channels_K, [0, 0.5, 0])


def test_the_means_are_over_layers():
    row = means(AFTER)
    assert (row.width, row.heads) == (60, 5 / 3)
    np.testing.assert_allclose(row.channels, 25 / 3)
