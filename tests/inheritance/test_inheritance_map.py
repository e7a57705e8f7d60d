"""The inheritance map in the source's numbering, against sets of numbers kept by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.config.inheritance import GatesConfig, Plan
from workbench.inheritance.gated import Gated, gate, slice_gated
from workbench.inheritance.inheritance_map import InheritanceMap, planned_map
from workbench.inheritance.manual import inherit
from workbench.models.configs import tower_shape


def test_a_plan_keeps_the_selected_parts(make_teacher):
    teacher = make_teacher()
    inheritance_map = planned_map(teacher, Plan.parse({"image": {"depth": [0, 2], "heads": 3}}))
    assert inheritance_map.kept["image"].layers == (0, 2)
    whole, left = (4 * 32 * 32 + 2 * 128 * 32) * 4, (4 * 24 * 32 + 2 * 128 * 32) * 2
    text = (4 * 24 * 24 + 2 * 96 * 24) * 3
    assert inheritance_map.num_weights == whole + text
    assert inheritance_map.sparsity == pytest.approx(1 - (left + text) / (whole + text))
    snapshot = inheritance_map.snapshot(0, 0)
    assert [int(heads.sum()) for heads in snapshot.towers["image"].heads] == [3, 0, 3, 0]
    assert snapshot.towers["image"].embedding_C.sum() == 32
    assert not snapshot.learning
    assert snapshot.target == snapshot.sparsity == pytest.approx(inheritance_map.sparsity)


def test_a_frozen_tower_and_a_resnet_are_not_counted(make_teacher, resnet):
    assert set(planned_map(make_teacher(), Plan.parse({"frozen": "text"})).source) == {"image"}
    assert set(planned_map(resnet, Plan()).source) == {"text"}


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), first=st.floats(0.1, 0.45), second=st.floats(0.5, 0.85))
def test_stages_narrow_down_in_the_numbers_of_the_source(make_teacher, seed, first, second):
    """Two rounds of random gates: every part of the student is a scaled part of the source, as the map lists."""
    teacher = make_teacher()
    generator = torch.Generator().manual_seed(seed)
    inheritance_map, student = planned_map(teacher, Plan()), inherit(teacher, Plan())
    for sparsity in (first, second):
        gated = gate(student, GatesConfig(sparsity=sparsity), inheritance_map.num_weights)
        with torch.no_grad():
            for log_alpha in gated.gates.log_alphas():
                log_alpha.copy_(torch.randn(log_alpha.shape, generator=generator) * 2)
        snapshot = inheritance_map.snapshot(3, 1, gated.gates, target=0.4)
        assert (snapshot.learning, snapshot.target) == (True, 0.4)
        for tower, mask in snapshot.towers.items():
            chances = gated.gates.open_probabilities()
            np.testing.assert_allclose(
                sum(float(layer.sum()) for layer in mask.channels), float(chances[f"{tower}/channels"].sum()), rtol=1e-5
            )
        masks = gated.gates.final_masks()
        gated.gates.fix(masks)
        student, inheritance_map = slice_gated(Gated(gated.clip, gated.gates)), inheritance_map.after(masks)
        assert inheritance_map.sparsity >= sparsity
        for tower in ("image", "text"):
            assert inheritance_map.kept[tower].shape(inheritance_map.source[tower]) == tower_shape(
                student.config, tower
            )
    embedding = list(inheritance_map.kept["image"].embedding)
    for place, layer in enumerate(inheritance_map.kept["image"].layers):
        own = student.towers.visual.transformer.resblocks[place].mlp
        numbers = list(inheritance_map.kept["image"].channels[place])
        if numbers:
            theirs = teacher.towers.visual.transformer.resblocks[layer].mlp.c_fc.weight
            torch.testing.assert_close(own.c_fc.weight, theirs[numbers][:, embedding])
    assert InheritanceMap.from_document(inheritance_map.document()) == inheritance_map
