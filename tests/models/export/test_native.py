import math

import pytest
import torch

from workbench.models.export.native import CAPTIONS, MismatchError, Probe, checked


@pytest.fixture
def probe(make_clip):
    return Probe.of(make_clip())


def test_the_largest_difference_of_either_tower(probe):
    image, text = probe.expected.image_BD.clone(), probe.expected.text_BD.clone()
    assert probe.difference(image, text) == 0
    text[2, 3] += 0.25
    image[1, 1] -= 0.125
    assert probe.difference(image, text) == 0.25
    assert probe.difference(image[:2], text[:2]) == 0.125


def test_nan_in_either_tower_is_seen_and_never_tolerated(probe):
    for tower in (0, 1):
        found = [probe.expected.image_BD.clone(), probe.expected.text_BD.clone()]
        found[tower][0, 0] = math.nan
        difference = probe.difference(*found)
        assert math.isnan(difference)
        with pytest.raises(MismatchError, match="by nan"):
            checked(difference, 1.0, "a reader")


def test_a_difference_is_tolerated_or_reported():
    assert checked(1e-5, 1e-5, "a reader") == 1e-5
    with pytest.raises(MismatchError, match=r"as a reader reads it.* by 1\.1e-05, more than 1e-05"):
        checked(1.1e-5, 1e-5, "a reader")


def test_the_probe_is_fixed_and_its_rows_differ(make_clip):
    first, second = Probe.of(make_clip(1)), Probe.of(make_clip(2))
    assert torch.equal(first.image_BCHW, second.image_BCHW)
    assert len(first.image_BCHW.flatten(1).unique(dim=0)) == len(CAPTIONS)
    assert len(first.text_BL.unique(dim=0)) >= len(CAPTIONS) - 2
