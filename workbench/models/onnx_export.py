"""ONNX export: ``image.onnx`` and ``text.onnx`` for towers of any shape, and ``config.json`` with their preprocessing.

Inputs are those of open_clip's transform and tokenizer: normalized float32 images [B, 3, H, W] and int64 token ids
[B, L]; B is dynamic. Outputs are unit-length float32 embeddings [B, D], so a dot product is a cosine. Each file also
has its part of ``config.json`` as metadata.
"""

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workbench.config.inheritance import TOWERS, Tower
from workbench.errors import reason
from workbench.files import write_atomically
from workbench.models.clip import Clip
from workbench.models.folder import TOKENIZER
from workbench.models.tokenizers import tokenizer_files
from workbench.models.towers import split_name

CONFIG = "config.json"
OPSET = 18
MAX_WEIGHT_BYTES = 2_000_000_000  # a protocol buffer is limited to 2^31 bytes, graph included
NOISY_LOGGERS = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")

Embed = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""uint8 images [B, 3, H, W] and token ids [B, L] -> unit-length embeddings [B, D] of both."""


class _Tower(nn.Module):
    """One tower as a module, with unit-length output."""

    def __init__(self, model: Clip, tower: Tower) -> None:
        super().__init__()
        self.towers, self.tower = model.towers, tower

    def forward(self, inputs: Tensor) -> Tensor:
        encode = self.towers.encode_image if self.tower == "image" else self.towers.encode_text
        embedding_BD: Tensor = encode(inputs, normalize=True)
        return embedding_BD


def write_onnx(model: Clip, folder: Path, dtype: torch.dtype = torch.float32) -> Embed:
    """Write both towers in float32, and return a function that runs them in onnxruntime.

    Raises:
        ValueError: a tower is too large for one file, or torch cannot convert it.
    """
    import onnxruntime

    assert dtype == torch.float32  # `check_format` refuses another
    document = describe(model)
    for tower in TOWERS:
        write_atomically(folder / f"{tower}.onnx", to_onnx(model, tower, document))
    write_atomically(folder / CONFIG, json.dumps(document, indent=2) + "\n")
    for name, content in tokenizer_files(model.tokenizer, with_rule=True).items():
        write_atomically(folder / name, content)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    image, text = (
        onnxruntime.InferenceSession(folder / f"{tower}.onnx", options, providers=["CPUExecutionProvider"])
        for tower in TOWERS
    )
    mean, std = (torch.tensor(channels).view(1, 3, 1, 1) for channels in (model.mean, model.std))

    def embed(image_BCHW: Tensor, text_BL: Tensor) -> tuple[Tensor, Tensor]:
        pixels_BCHW = (image_BCHW / 255 - mean) / std
        (image_BD,), (text_BD,) = (
            image.run(None, {"image": pixels_BCHW.numpy()}),
            text.run(None, {"text": text_BL.numpy()}),
        )
        return torch.from_numpy(image_BD), torch.from_numpy(text_BD)

    return embed


RESIZED = {"shortest": "the shorter side to size, then the centre square", "squash": "both sides to size"}


def describe(model: Clip) -> dict[str, Any]:
    """The content of ``config.json``: preprocessing of the inputs, and how to compare the outputs."""
    size, bias = model.image_size, getattr(model.towers, "logit_bias", None)
    return {
        "image": {
            "file": "image.onnx",
            "input": "image: float32 [B, 3, H, W], RGB, (pixel / 255 - mean) / std",
            "size": size,
            "resize": f"{model.resizing.interpolation}, {RESIZED[model.resizing.mode]}",
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


def to_onnx(model: Clip, tower: Tower, document: dict[str, Any]) -> bytes:
    """One tower as an ONNX model in bytes, with dynamic batch size and its part of ``document`` as metadata."""
    import onnx

    num_bytes = sum(4 * p.numel() for name, p in model.towers.named_parameters() if split_name(name)[0] == tower)
    if num_bytes > MAX_WEIGHT_BYTES:
        raise ValueError(
            f"the {tower} tower has {num_bytes / 1e9:.1f} GB of weights, an ONNX file holds 2: use --format native"
        )
    graph = _convert(model, tower)
    _strip(graph)
    facts = document[tower] | {name: value for name, value in document.items() if name not in TOWERS}
    onnx.helper.set_model_props(
        graph, {name: fact if isinstance(fact, str) else json.dumps(fact) for name, fact in facts.items()}
    )
    onnx.checker.check_model(graph)
    content: bytes = graph.SerializeToString()
    return content


def _convert(model: Clip, tower: Tower) -> Any:
    """The ONNX model of one tower as a protocol buffer."""
    # Two rows: torch specializes a batch size of 1 instead of keeping it dynamic.
    size = (2, 3, model.image_size, model.image_size)
    example = torch.zeros(size) if tower == "image" else model.tokenizer(["a photo", ""])
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                _Tower(model, tower).eval(),
                (example,),
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
