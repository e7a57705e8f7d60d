"""Exported ONNX towers, run by onnxruntime from config.json only."""

import json

import numpy as np
import pytest
import torch

from workbench.models import onnx_export as export_onnx
from workbench.models.export import MismatchError, export_model
from workbench.models.onnx_export import CONFIG, describe, to_onnx, write_onnx

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def by_config(folder, images, tokens):
    """Unit-length embeddings of uint8 images and of tokens, from what lies in the folder."""
    config = json.loads((folder / CONFIG).read_text())
    channels = (1, 3, 1, 1)
    mean, std = (np.array(config["image"][name], np.float32).reshape(channels) for name in ("mean", "std"))
    normalized = (images.astype(np.float32) / 255 - mean) / std
    found = []
    for tower, inputs in (("image", normalized), ("text", tokens)):
        session = onnxruntime.InferenceSession(folder / config[tower]["file"], providers=["CPUExecutionProvider"])
        assert config[tower]["input"].startswith(f"{session.get_inputs()[0].name}:")
        found += session.run(None, {session.get_inputs()[0].name: inputs})
    return found


def check_export(student, folder, images):
    exported = export_model(student, folder, "onnx")
    assert exported.max_abs_difference < 1e-5
    assert exported.sizes.keys() == {"image.onnx", "text.onnx", "config.json", "tokenizer.json"}
    parameters = 4 * sum(p.numel() for p in student.towers.parameters())
    assert exported.sizes["image.onnx"] + exported.sizes["text.onnx"] < 1.1 * parameters + 100_000
    for count in (1, 2, 7):
        image, text = images(count, student.image_size), student.tokenizer(["a red square", "", "zebra"] * 3)[:count]
        expected = student.embed(image, text)
        image_BD, text_BD = by_config(folder, image.numpy(), text.numpy())
        np.testing.assert_allclose(image_BD, expected.image_BD.detach(), atol=1e-5)
        np.testing.assert_allclose(text_BD, expected.text_BD.detach(), atol=1e-5)
    for tower in ("image", "text"):
        graph = onnx.load(folder / f"{tower}.onnx")
        metadata = {entry.key: entry.value for entry in graph.metadata_props}
        assert float(metadata["logit_scale"]) == pytest.approx(student.scale.item())
        assert not any(node.metadata_props for node in graph.graph.node)
        assert not {"logit_scale", "projection"} & {tensor.name for tensor in graph.graph.initializer}


def test_a_sliced_student_runs_elsewhere(make_sliced, tmp_path, images, capfd):
    student = make_sliced(1, 0.7)
    assert "workbench" in student.config  # not uniform
    check_export(student, tmp_path / "out", images)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "resnet", "bpe"])
def test_any_student_runs_elsewhere(make_student, tmp_path, images, kind):
    check_export(make_student(kind), tmp_path / "out", images)


@pytest.mark.slow
@pytest.mark.parametrize("change", ["quick_gelu", "custom_text", "logit_bias", "avg"])
def test_open_clips_variants_run_elsewhere(config, tokenizer, tmp_path, images, change):
    from workbench.models.clip import Clip

    if change == "avg":
        config["vision_cfg"]["pool_type"] = "avg"
    elif change == "logit_bias":
        config |= {"init_logit_bias": -10.0}
    else:
        config |= {change: True}
    student = Clip(config, tokenizer).eval()
    check_export(student, tmp_path / "out", images)
    assert json.loads((tmp_path / "out" / CONFIG).read_text())["logit_bias"] == (-10 if change == "logit_bias" else 0)


def test_the_document_describes_the_models_inputs(make_clip):
    document = describe(make_clip(2, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)))
    assert (document["image"]["mean"], document["image"]["size"]) == ([0.4, 0.5, 0.6], 16)
    assert (document["text"]["vocab_size"], document["text"]["context_length"]) == (11, 8)


def test_a_tower_beyond_two_gigabytes_is_refused(make_clip, monkeypatch):
    monkeypatch.setattr(export_onnx, "MAX_WEIGHT_BYTES", 10_000)
    model = make_clip()
    with pytest.raises(ValueError, match=r"image tower has .* GB of weights.*: use --format native"):
        to_onnx(model, "image", describe(model))


def test_a_tower_that_torch_cannot_write_is_one_line(make_clip, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no such operator\nand a long story")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(ValueError, match=r"\Atorch cannot convert the image tower .*\(no such operator\)[^\n]*\Z"):
        write_onnx(make_clip(), tmp_path)


def test_a_runtime_that_disagrees_is_noticed(make_clip, tmp_path, monkeypatch):
    def constant(_, tower: str, __):
        """A valid tower that always returns the same."""
        value = onnx.numpy_helper.from_array(np.ones((1, 16), np.float32) / 4, "value")
        node = onnx.helper.make_node("Identity", ["value"], ["embedding"])
        kinds = {"image": (onnx.TensorProto.FLOAT, ["B", 3, 16, 16]), "text": (onnx.TensorProto.INT64, ["B", 8])}
        given = onnx.helper.make_tensor_value_info(tower, *kinds[tower])
        output = onnx.helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, [1, 16])
        graph = onnx.helper.make_graph([node], "constant", [given], [output], [value])
        imports = [onnx.helper.make_opsetid("", 18)]
        return onnx.helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()

    monkeypatch.setattr(export_onnx, "to_onnx", constant)
    with pytest.raises(MismatchError, match="as onnxruntime reads it"):
        export_model(make_clip(), tmp_path / "out", "onnx")


def test_the_converters_logging_is_silenced_and_restored():
    import logging

    logger = logging.getLogger("onnxscript")
    before = logger.level
    with export_onnx._quiet():
        assert not logger.isEnabledFor(logging.WARNING)
    assert logger.level == before
