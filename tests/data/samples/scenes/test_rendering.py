import numpy as np
import pytest

from workbench.data.samples.scenes.attributes import SHAPES, SPLITS, combinations, image_seeds
from workbench.data.samples.scenes.rendering import GAP_PX, MARGIN_PX, RELATIONS, WANDER_PX, lay_out
from workbench.data.samples.scenes.shapes import REACH, SIDE_PX

REACHES = np.array([REACH[shape] for shape in SHAPES])


@pytest.fixture(scope="module", params=SPLITS)
def split(request):
    return request.param


@pytest.fixture(scope="module")
def layout(split):
    return lay_out(split, image_seeds(split, 0, 5_000))


def test_the_first_object_is_of_the_split_and_the_second_of_training(split, layout):
    shown_N23 = np.stack([layout.color_N2, layout.texture_N2, layout.shape_N2], axis=-1)
    for which, of in enumerate((split, "train")):
        shown = {tuple(triple) for triple in shown_N23[:, which].tolist()}
        assert shown == {tuple(triple) for triple in combinations(of).tolist()}


def test_no_image_shows_the_same_object_twice(layout):
    attributes_N24 = np.stack([layout.size_N2, layout.color_N2, layout.texture_N2, layout.shape_N2], axis=-1)
    assert (attributes_N24[:, 0] != attributes_N24[:, 1]).any(axis=-1).all()


def test_objects_stay_inside_the_image(layout):
    reach_N21 = (REACHES[layout.shape_N2] * layout.radius_N2)[..., None]
    assert (layout.center_N22 - reach_N21).min() >= MARGIN_PX - 1e-9
    assert (layout.center_N22 + reach_N21).max() <= SIDE_PX - MARGIN_PX + 1e-9


def test_the_relation_matches_the_centers_clearly(layout):
    step_N2 = layout.center_N22[:, 0] - layout.center_N22[:, 1]
    signs = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}
    for index, relation in enumerate(RELATIONS):
        axis, sign = signs[relation]
        along, across = step_N2[layout.relation_N == index].T[[axis, 1 - axis]]
        reach_N2 = REACHES[layout.shape_N2] * layout.radius_N2
        assert (sign * along >= reach_N2[layout.relation_N == index].sum(1) + GAP_PX - 1e-9).all()
        assert (abs(across) <= 2 * WANDER_PX + 1e-9).all()


def test_each_object_lies_within_its_half_of_the_image(layout):
    vertical_N = np.isin(layout.relation_N, [RELATIONS.index("above"), RELATIONS.index("below")])
    along_N2 = np.where(vertical_N[:, None], layout.center_N22[..., 1], layout.center_N22[..., 0])
    reach_N2 = REACHES[layout.shape_N2] * layout.radius_N2
    assert (abs(along_N2 - SIDE_PX / 2) >= reach_N2 + GAP_PX / 2 - 1e-9).all()
    assert ((along_N2[:, 0] < SIDE_PX / 2) != (along_N2[:, 1] < SIDE_PX / 2)).all()


def test_relations_and_sizes_come_up_equally_often(layout):
    assert abs(np.bincount(layout.relation_N) / 5_000 - 1 / 4).max() < 0.03
    assert abs(np.bincount(layout.size_N2.ravel()) / 10_000 - 1 / 2).max() < 0.03
