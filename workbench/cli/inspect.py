"""``workbench inspect``: what a model or a weights file is, without using it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.options import DEFAULT_RUNS, Json, RunsDir

if TYPE_CHECKING:
    from workbench.config.inheritance import Tower
    from workbench.models.clip import Clip


def inspect(
    model: Annotated[
        str, typer.Argument(metavar="FILE|SPEC", help="A weights file, a model folder, run:ID, or another model SPEC.")
    ],
    runs: RunsDir = DEFAULT_RUNS,
    json: Json = False,
) -> None:
    """Show what a model is: architecture, parameters by tower, and the heads and FFN channels of each layer.

    Weights are read in the layouts of open_clip, OpenAI, CLIP-KD, TinyCLIP
    (manual and automatic inheritance) and transformers, and in those of SigLIP
    and MobileCLIP as open_clip has them. Nothing is trained.

    Examples:

        workbench inspect TinyCLIP-ViT-8M-16-Text-3M-YFCC15M.pt

        workbench inspect open_clip:ViT-T-16@clip-kd.pt --json

        workbench inspect open_clip:ViT-B-16-SigLIP2@siglip2/open_clip_model.safetensors
    """
    from workbench.cli.output import print_json, print_line, print_rows
    from workbench.models.names import check_model, is_weights_file
    from workbench.progress import phase

    check_model(model, runs)
    with phase("loading PyTorch"):
        from workbench.config.inheritance import TOWERS
        from workbench.models.spec import load_model, spec_of_file

    spec = spec_of_file(Path(model)) if is_weights_file(model) else model
    loaded = load_model(spec, seed=0, runs_dir=runs)
    document: dict[str, Any] = {
        "source": model,
        "model": spec,
        "embed_dim": loaded.width,
        "image_size": loaded.image_size,
        "mean": loaded.mean,
        "std": loaded.std,
        "resize_mode": loaded.resizing.mode,
        "interpolation": loaded.resizing.interpolation,
        "quick_gelu": bool(loaded.config.get("quick_gelu")),
        "tokenizer": {
            "kind": loaded.tokenizer.spec["kind"],
            "vocab_size": loaded.tokenizer.vocab_size,
            "context_length": loaded.tokenizer.context_length,
        },
        "scale": loaded.scale.item(),
        "bias": None if loaded.bias is None else loaded.bias.item(),
        "towers": {tower: _tower(loaded, tower) for tower in TOWERS},
    }
    if json:
        print_json(document)
        return
    print_line(f"{model}: {'an unevenly pruned CLIP' if spec == model and is_weights_file(model) else spec}")
    bias = "" if loaded.bias is None else f", bias {document['bias']:.1f} (sigmoid loss)"
    print_line(
        f"embeddings of {loaded.width}; images of {loaded.image_size} x {loaded.image_size} "
        f"({loaded.resizing.mode}, {loaded.resizing.interpolation}), mean "
        f"{_short(loaded.mean)}, std {_short(loaded.std)}; activation "
        f"{'QuickGELU' if document['quick_gelu'] else 'GELU'}; scale {document['scale']:.1f}{bias}"
    )
    print_line("captions: {kind}, {vocab_size:,} tokens, rows of {context_length}".format(**document["tokenizer"]))
    towers = document["towers"]
    print_line("")
    print_rows(["", "image", "text"], [[row, *(_cell(towers[tower], row) for tower in TOWERS)] for row in ROWS])
    for tower in TOWERS:
        if towers[tower]["heads"] and not towers[tower]["is_plain"]:
            layers = zip(towers[tower]["heads"], towers[tower]["channels"], strict=True)
            print_line("")
            rows = [[str(layer), f"{heads}", f"{channels:,}"] for layer, (heads, channels) in enumerate(layers)]
            print_rows([f"layer of the {tower} tower", "heads", "FFN channels"], rows)


ROWS = ("kind", "layers", "width", "heads", "FFN channels", "parameters", "of them embeddings")


def _tower(model: "Clip", tower: "Tower") -> dict[str, Any]:
    """Parameters and shape of one tower; without heads and channels where it is not a transformer of open_clip."""
    from workbench.models.clip import count_parameters
    from workbench.models.configs import tower_shape, why_not_a_transformer

    counted = count_parameters(model, tower)
    trouble = why_not_a_transformer(model.config, tower)
    if trouble:
        return {"kind": trouble.removeprefix("is "), "parameters": counted, "heads": None, "is_plain": True}
    shape = tower_shape(model.config, tower)
    return {"kind": "transformer", "parameters": counted, "is_plain": shape.is_plain} | shape.model_dump(mode="json")


def _cell(tower: dict[str, Any], row: str) -> str:
    if row == "kind":
        return str(tower["kind"])
    if row == "parameters":
        return f"{tower['parameters']['total']:,}"
    if row == "of them embeddings":
        return f"{tower['parameters']['embeddings']:,}"
    if not tower["heads"]:
        return "\N{EN DASH}"
    values = {"layers": [len(tower["heads"])], "width": [tower["width"]], "heads": tower["heads"]}
    return _range(values.get(row, tower["channels"]))


def _range(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _short(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.3g}" for value in values)
