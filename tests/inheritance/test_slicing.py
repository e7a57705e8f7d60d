"""Slicing: any selection gives a valid model, and a real model has the expected size."""

import pytest
import torch
from open_clip.factory import get_model_config

from workbench.config.inheritance import TOWERS, GatesConfig
from workbench.inheritance.gated import block_weights
from workbench.inheritance.gates import Gates
from workbench.inheritance.masks import MAX_LOG_ALPHA
from workbench.inheritance.selection import full_selection
from workbench.inheritance.slicing import slice_towers
from workbench.models.clip import Clip, count_parameters
from workbench.models.configs import tower_shape
from workbench.models.tokenizers import BytePairTokenizer


def test_a_selection_after_a_selection_is_one_selection(make_teacher, inputs):
    teacher = make_teacher()
    shape = tower_shape(teacher.config, "image")
    first = full_selection(shape).model_copy(
        update={
            "embedding": tuple(range(1, 32, 2)),
            "heads": ((0, 3), (), (1,), (0, 1, 2, 3)),
            "channels": (tuple(range(0, 128, 3)),) * 4,
        }
    )
    second = full_selection(first.shape(shape)).model_copy(
        update={
            "layers": (0, 1, 3),
            "embedding": (0, 5, 9),
            "heads": ((1,), (), (2, 3)),
            "channels": ((4, 5), (), (0,)),
        }
    )
    one_by_one = slice_towers(slice_towers(teacher, {"image": first}), {"image": second})
    at_once = slice_towers(teacher, {"image": first.then(second)})
    assert one_by_one.config == at_once.config
    torch.testing.assert_close(one_by_one.state_dict(), at_once.state_dict(), rtol=0, atol=0)
    assert at_once.encode_image(inputs[0]).shape == (5, 16)


def test_half_of_vit_b_has_the_size_that_was_counted():
    with torch.device("meta"):
        teacher = Clip(get_model_config("ViT-B-32"), BytePairTokenizer())
    shapes = {tower: tower_shape(teacher.config, tower) for tower in TOWERS}
    gates = Gates(shapes, GatesConfig(sparsity=0.5), block_weights(teacher))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for log_alpha in gates.log_alphas():
            log_alpha.copy_(
                (torch.randn(log_alpha.shape, generator=generator) * 4).clamp(-MAX_LOG_ALPHA, MAX_LOG_ALPHA)
            )
    masks = gates.final_masks()
    with torch.device("meta"):
        student = slice_towers(teacher, {tower: mask.selection(shapes[tower]) for tower, mask in masks.items()})
    counted = sum(mask.num_weights(shapes[tower]) for tower, mask in masks.items())
    assert counted == pytest.approx(block_weights(teacher) / 2, rel=1e-4)
    matrices = [
        parameter.numel()
        for name, parameter in student.towers.named_parameters()
        if "resblocks" in name and parameter.ndim == 2
    ]
    assert sum(matrices) == block_weights(student) == counted
    before, after = count_parameters(teacher), count_parameters(student)
    assert before["total"] == 151_277_313
    assert after["blocks"] < 0.52 * before["blocks"]
