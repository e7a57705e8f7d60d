import pytest
import torch

from workbench.dense.pyramid import FrozenTower, Pyramid
from workbench.models.spec import load_model


def make(patch=None):
    if patch is None:
        return load_model("mini-rn16", seed=0)
    import json
    import tempfile
    from pathlib import Path

    vision = {"image_size": 4 * patch, "patch_size": patch, "width": 16, "layers": 2, "head_width": 8}
    text = {"context_length": 20, "width": 16, "heads": 2, "layers": 1}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.json"
        file.write_text(
            json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text, "tokenizer": "words:scenes"})
        )
        return load_model(f"config:{file}", seed=0)


@pytest.mark.parametrize("patch", [None, 8, 14, 16, 32])
def test_levels_are_at_strides_4_to_64(patch):
    pyramid = Pyramid(FrozenTower(make(patch)), 12)
    levels = pyramid(torch.rand(2, 3, 64, 96))
    assert list(levels) == ["0", "1", "2", "3", "pool"]
    assert [tuple(level.shape[1:]) for level in levels.values()] == [
        (12, 16, 24),
        (12, 8, 12),
        (12, 4, 6),
        (12, 2, 3),
        (12, 1, 2),
    ]


@pytest.mark.parametrize("patch", [None, 8])
def test_the_tower_sees_what_it_was_trained_on_and_keeps_its_mode(patch):
    model = make(patch).train()
    image = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in (model.mean, model.std))
    found = FrozenTower(model).maps((image / 255 - mean) / std)
    assert model.training and not any(one.requires_grad for one in found)
    model.eval()
    with torch.no_grad():
        expected = model.features(image, [0, 1, 2, 3] if patch is None else [-1], "map")
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_the_pyramids_weights_are_not_the_towers():
    model = make(8)
    pyramid = Pyramid(FrozenTower(model), 12)
    own = {id(parameter) for parameter in pyramid.parameters()}
    assert own and not own & {id(parameter) for parameter in model.parameters()}
    sum(level.sum() for level in pyramid(torch.rand(1, 3, 32, 32)).values()).backward()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_towers_without_maps_are_refused():
    model = make(8)
    model.towers.visual = torch.nn.Identity()
    with pytest.raises(ValueError, match="no inner features of a Identity"):
        FrozenTower(model)
