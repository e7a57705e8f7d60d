"""``workbench inspect``: what a model or a weights file is, without using it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.completion import complete_model, complete_source
from workbench.cli.options import DEFAULT_RUNS, Json, RunsDir

if TYPE_CHECKING:
    from workbench.config.inheritance import Tower
    from workbench.inheritance.recovery import Recovered
    from workbench.models.clip import Clip
    from workbench.views.architecture import Architecture, OverlapByGroup


def inspect(
    model: Annotated[
        str, typer.Argument(metavar="FILE|SPEC", help="A weights file, a model folder, run:ID, or another model SPEC.")
    ],
    teacher: Annotated[
        str,
        typer.Option(
            "--teacher",
            metavar="SPEC",
            help="Find the layers, heads and channels of this model that it has, by the weights.",
            autocompletion=complete_model,
        ),
    ] = "",
    against: Annotated[
        str,
        typer.Option(
            "--against",
            metavar="RUN|RULE|SPEC",
            help="With --teacher: overlap with a run, a rule (leading, magnitude), or another model.",
            autocompletion=complete_source,
        ),
    ] = "",
    figure: Annotated[
        Path | None,
        typer.Option("--figure", metavar="FILE", help="With --teacher: draw what each layer kept (png, svg or pdf)."),
    ] = None,
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

        workbench inspect student.pt --teacher open_clip:ViT-B-16@teacher.pt --against magnitude
    """
    if not teacher and (against or figure):
        raise ValueError(f"{'--against' if against else '--figure'} needs --teacher SPEC")
    from workbench.cli.output import print_json, print_line
    from workbench.models.names import check_model, is_weights_file
    from workbench.progress import phase

    check_model(model, runs)
    if teacher:
        check_model(teacher, runs, needs_weights=True)
    with phase("loading PyTorch"):
        from workbench.models.spec import load_model, spec_of_file

    spec = spec_of_file(Path(model)) if is_weights_file(model) else model
    loaded = load_model(spec, seed=0, runs_dir=runs)
    document = _document(model, spec, loaded)
    inherited = _inherited(loaded, teacher, against, figure, runs) if teacher else None
    if json:
        print_json(document | ({"inheritance": inherited.to_json()} if inherited else {}))
        return
    print_line(f"{model}: {'an unevenly pruned CLIP' if spec == model and is_weights_file(model) else spec}")
    _print_model(document)
    if inherited:
        inherited.print(against)
        if figure:
            print_line(f"figure: {figure}")


def _document(source: str, spec: str, model: "Clip") -> dict[str, Any]:
    """The document of ``--json``, without what is inherited."""
    from workbench.config.inheritance import TOWERS

    return {
        "source": source,
        "model": spec,
        "embed_dim": model.width,
        "image_size": model.image_size,
        "mean": model.mean,
        "std": model.std,
        "resize_mode": model.resizing.mode,
        "interpolation": model.resizing.interpolation,
        "quick_gelu": bool(model.config.get("quick_gelu")),
        "tokenizer": {
            "kind": model.tokenizer.spec["kind"],
            "vocab_size": model.tokenizer.vocab_size,
            "context_length": model.tokenizer.context_length,
        },
        "scale": model.scale.item(),
        "bias": None if model.bias is None else model.bias.item(),
        "towers": {tower: _tower(model, tower) for tower in TOWERS},
    }


def _print_model(document: dict[str, Any]) -> None:
    """Print what the document has: inputs and outputs, both towers, and the layers of an uneven one."""
    from workbench.cli.output import print_line, print_rows

    bias = "" if document["bias"] is None else f", bias {document['bias']:.1f} (sigmoid loss)"
    print_line(
        f"embeddings of {document['embed_dim']}; images of {document['image_size']} x {document['image_size']} "
        f"({document['resize_mode']}, {document['interpolation']}), mean "
        f"{_short(document['mean'])}, std {_short(document['std'])}; activation "
        f"{'QuickGELU' if document['quick_gelu'] else 'GELU'}; scale {document['scale']:.1f}{bias}"
    )
    print_line("captions: {kind}, {vocab_size:,} tokens, rows of {context_length}".format(**document["tokenizer"]))
    towers = document["towers"]
    print_line("")
    print_rows(["", *towers], [[row, *(_cell(one, row) for one in towers.values())] for row in ROWS])
    for tower, one in towers.items():
        if one["heads"] and not one["is_plain"]:
            layers = zip(one["heads"], one["channels"], strict=True)
            print_line("")
            rows = [[str(layer), f"{heads}", f"{channels:,}"] for layer, (heads, channels) in enumerate(layers)]
            print_rows([f"layer of the {tower} tower", "heads", "FFN channels"], rows)


@dataclass(frozen=True)
class Inherited:
    """What a model has of its teacher, and the overlap with another selection of the teacher's parts."""

    view: "Architecture"
    recovered: "Recovered"
    overlaps: "dict[Tower, OverlapByGroup]"

    def to_json(self) -> dict[str, Any]:
        """``inheritance`` in ``--json``."""
        from workbench.views.architecture import overlaps_to_json

        overlaps = {"overlaps": overlaps_to_json(self.overlaps)} if self.overlaps else {}
        return {**self.view.to_json(), "matches": self.recovered.to_json(), **overlaps}

    def print(self, against: str) -> None:
        """Print the tables of ``runs show --architecture``, and how well the weights match."""
        from workbench.cli.architecture import GROUPS, print_architecture, print_overlaps
        from workbench.cli.output import print_line, print_rows

        print_architecture(self.view)
        rows = [
            [f"{tower} tower", GROUPS[group], f"{match.cosine:.2f}", f"{match.chance:.2f}"]
            for tower, groups in self.recovered.matches.items()
            for group, match in groups.items()
        ]
        print_line("\nMean cosine between these weights and those of the teacher that they match best:")
        print_rows(["", "", "cosine", "by chance"], rows, num_words=2)
        for tower in self.recovered.unlike:
            print_line(f"the {tower} tower does not resemble the teacher's: what is kept there means nothing")
        print_overlaps(self.overlaps, against)


def _inherited(model: "Clip", teacher: str, against: str, figure: Path | None, runs: Path) -> Inherited:
    from workbench.cli.architecture import overlaps_with
    from workbench.cli.options import write_figure
    from workbench.inheritance.recovery import recover
    from workbench.models.spec import load_model
    from workbench.views.architecture import architecture

    source = load_model(teacher, runs_dir=runs)
    recovered = recover(model, source)
    view = architecture(recovered.snapshot)
    if figure:
        from workbench.figures.architecture import architecture_figure

        write_figure(architecture_figure(view), figure)
    return Inherited(view, recovered, overlaps_with(recovered.snapshot, against, lambda: source, runs))


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
