"""ONNX export: ``image.onnx`` and ``text.onnx`` for towers of any shape, and ``config.json`` with their preprocessing.

Inputs are those of open_clip's transform and tokenizer: normalized float32 images [B, 3, H, W] and int64 token ids
[B, L]; B is dynamic. Outputs are unit-length float32 embeddings [B, D], so a dot product is a cosine. Each file also
has its part of ``config.json`` as metadata.
"""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workbench.config.inheritance import TOWERS, Tower
from workbench.errors import reason
from workbench.files import write_atomically
from workbench.models.clip import Clip
from workbench.models.export.native import BATCH_SIZES, Probe, checked, max_or_nan, tokenizer_document
from workbench.models.folder import TOKENIZER
from workbench.models.towers import split_name

TOLERANCE = 1e-4
CONFIG = "config.json"
OPSET = 18
MAX_WEIGHT_BYTES = 2_000_000_000  # a protocol buffer is limited to 2^31 bytes, graph included
NOISY_LOGGERS = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")


class _Tower(nn.Module):
    """One tower as a module, with unit-length output."""

    def __init__(self, model: Clip, tower: Tower) -> None:
        super().__init__()
        self.towers, self.tower = model.towers, tower

    def forward(self, inputs: Tensor) -> Tensor:
        encode = self.towers.encode_image if self.tower == "image" else self.towers.encode_text
        embedding_BD: Tensor = encode(inputs, normalize=True)
        return embedding_BD


def write_onnx(model: Clip, folder: Path) -> float:
    """Write both towers in float32, and run them in onnxruntime at several batch sizes.

    Returns:
        the largest difference between its unit-length embeddings and the model's.

    Raises:
        ValueError: a tower is too large for one file, or torch cannot convert it.
        MismatchError: onnxruntime gives other embeddings.
    """
    probe, document = Probe.of(model), describe(model)
    inputs = model_inputs(model, probe)
    for tower in TOWERS:
        content = to_onnx(model, tower, inputs[tower][:2], document)
        write_atomically(folder / f"{tower}.onnx", content)
    write_atomically(folder / CONFIG, json.dumps(document, indent=2) + "\n")
    write_atomically(folder / TOKENIZER, json.dumps(tokenizer_document(model.tokenizer)) + "\n")
    return checked(_difference(folder, probe, inputs), TOLERANCE, "onnxruntime")


def describe(model: Clip) -> dict[str, Any]:
    """The content of ``config.json``: preprocessing of the inputs, and how to compare the outputs."""
    size, bias = model.image_size, getattr(model.towers, "logit_bias", None)
    return {
        "image": {
            "file": "image.onnx",
            "input": "image: float32 [B, 3, H, W], RGB, (pixel / 255 - mean) / std",
            "size": size,
            "resize": "bicubic, the shorter side to size, then the centre square",
            "mean": list(model.mean),
            "std": list(model.std),
        },
        "text": {
            "file": "text.onnx",
            "input": "text: int64 [B, context_length], token ids",
            "context_length": model.tokenizer.context_length,
            "vocab_size": model.tokenizer.vocab_size,
            "tokenizer": TOKENIZER,
        },
        "outputs": "image_embedding, text_embedding: float32 [B, embed_dim], unit length",
        "embed_dim": model.width,
        "logits": "logit_scale * image_embedding @ text_embedding.T + logit_bias",
        "logit_scale": model.scale.item(),
        "logit_bias": 0.0 if bias is None else bias.item(),
    }


def model_inputs(model: Clip, probe: Probe) -> dict[Tower, Tensor]:
    """The probe as input of the two files."""
    mean, std = (torch.tensor(channels).view(1, 3, 1, 1) for channels in (model.mean, model.std))
    return {"image": (probe.image_BCHW / 255 - mean) / std, "text": probe.text_BL}


def to_onnx(model: Clip, tower: Tower, example: Tensor, document: dict[str, Any]) -> bytes:
    """One tower as an ONNX model in bytes, with dynamic batch size.

    Args:
        example: two rows of its input.
        document: the result of :func:`describe`.

    Raises:
        ValueError: too many weights for one file, or torch cannot convert it.
    """
    import onnx

    num_bytes = sum(4 * p.numel() for name, p in model.towers.named_parameters() if split_name(name)[0] == tower)
    if num_bytes > MAX_WEIGHT_BYTES:
        raise ValueError(
            f"the {tower} tower has {num_bytes / 1e9:.1f} GB of weights, an ONNX file holds 2: use --format native"
        )
    graph = _convert(model, tower, example)
    _strip(graph)
    facts = document[tower] | {name: value for name, value in document.items() if name not in TOWERS}
    onnx.helper.set_model_props(
        graph, {name: fact if isinstance(fact, str) else json.dumps(fact) for name, fact in facts.items()}
    )
    onnx.checker.check_model(graph)
    content: bytes = graph.SerializeToString()
    return content


def _convert(model: Clip, tower: Tower, example: Tensor) -> Any:
    """The ONNX model of one tower as a protocol buffer."""
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                _Tower(model, tower).eval(),
                (example,),  # two rows: torch specializes a batch size of 1 instead of keeping it dynamic
                input_names=[tower],
                output_names=[f"{tower}_embedding"],
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("B")},),
                verbose=False,
            )
        assert program is not None
        return program.model_proto
    except Exception as error:  # the converter raises many kinds
        raise ValueError(
            f"torch cannot convert the {tower} tower to ONNX ({reason(error)}): use --format native"
        ) from error


def _strip(graph: Any) -> None:
    """Drop the Python stack traces that torch stores on every node: in a small tower they outweigh the weights."""
    graph.graph.ClearField("metadata_props")
    graph.graph.ClearField("value_info")
    for part in (*graph.graph.node, *graph.graph.initializer, *graph.graph.input, *graph.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _difference(folder: Path, probe: Probe, inputs: dict[Tower, Tensor]) -> float:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    sessions = {
        tower: onnxruntime.InferenceSession(folder / f"{tower}.onnx", options, providers=["CPUExecutionProvider"])
        for tower in TOWERS
    }

    def run(tower: Tower, size: int) -> Tensor:
        return torch.from_numpy(sessions[tower].run(None, {tower: inputs[tower][:size].numpy()})[0])

    return max_or_nan([probe.difference(run("image", size), run("text", size)) for size in BATCH_SIZES])


@contextmanager
def _quiet() -> Iterator[None]:
    """Context without the converter's log messages and warnings; its output is checked instead."""
    levels = {name: logging.getLogger(name).level for name in NOISY_LOGGERS}
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
