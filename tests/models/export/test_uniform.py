"""What open_clip can say of an architecture, and what it cannot."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.config.shape import TowerShape
from workbench.models.clip import Clip
from workbench.models.export.probe import MismatchError
from workbench.models.export.uniform import as_uniform, write_open_clip
from workbench.models.shapes import TABLES, tower_shape, with_shape


def test_a_plain_tower_in_a_table_is_open_clips_own(make_clip, tokenizer, pictures, captions):
    plain = make_clip(3)
    config = plain.config
    for tower in ("image", "text"):
        config = with_shape(config, tower, tower_shape(config, tower), always_table=True)
    tabled = Clip(config, tokenizer).eval()
    tabled.towers.load_state_dict(plain.towers.state_dict())
    uniform = as_uniform(tabled)
    assert TABLES not in uniform.config
    assert uniform.config == plain.config
    image, text = pictures(3), tokenizer(captions(3))
    torch.testing.assert_close(uniform.encode_image(image), tabled.encode_image(image), atol=1e-6, rtol=0)
    torch.testing.assert_close(uniform.encode_text(text), tabled.encode_text(text), atol=1e-6, rtol=0)


def test_a_model_without_tables_is_taken_as_it_is(make_clip):
    model = make_clip()
    assert as_uniform(model) is model


@pytest.mark.parametrize(
    ("heads", "channels", "why"),
    [
        ((2, 1), (8, 8), "its layers have 1 to 2 heads"),
        ((2, 2), (8, 0), "its layers have 0 to 8 FFN channels"),
        ((2, 2), (0, 0), "its layers have no FFN"),
        ((1, 1), (8, 8), "1 heads of 16 in a width of 32"),
        ((0, 0), (8, 8), "0 heads of 16 in a width of 32"),
    ],
)
def test_an_odd_tower_is_refused_in_one_line(make_clip, tokenizer, tmp_path, heads, channels, why):
    shape = TowerShape(width=32, head_width=16, heads=heads, channels=channels)
    model = Clip(with_shape(make_clip().config, "image", shape), tokenizer)
    expected = rf"\Aopen_clip has no such image tower \({why}\): take --format native or onnx\Z"
    with pytest.raises(ValueError, match=expected):
        write_open_clip(model, tmp_path / "out", torch.float32)
    assert not (tmp_path / "out").exists()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    layers=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=3),
    width=st.sampled_from([8, 16, 24]),
)
def test_a_shape_is_taken_or_refused_as_open_clip_can_build_it(config, tokenizer, layers, width):
    heads, channels = zip(*layers, strict=True)
    shape = TowerShape(width=width, head_width=8, heads=heads, channels=channels)
    can_be = len(set(layers)) == 1 and heads[0] * 8 == width and channels[0] > 0
    model = Clip(with_shape(config, "text", shape, always_table=True), tokenizer)
    if can_be:
        assert tower_shape(as_uniform(model).config, "text") == shape
    else:
        with pytest.raises(ValueError, match="open_clip has no such text tower"):
            as_uniform(model)


def test_another_model_in_the_folder_is_noticed(make_clip, tmp_path, monkeypatch):
    from workbench.models.export import uniform

    def write_another(_: Clip, folder, dtype):
        real(make_clip(1), folder, dtype)

    real = uniform.write_model_folder
    monkeypatch.setattr(uniform, "write_model_folder", write_another)
    with pytest.raises(MismatchError, match="as open_clip reads it"):
        write_open_clip(make_clip(0), tmp_path / "out", torch.float32)
