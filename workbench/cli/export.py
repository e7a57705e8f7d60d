"""``workbench export``: write a trained model as safetensors, an open_clip folder or ONNX."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.completion import complete_format, complete_source
from workbench.cli.options import DEFAULT_RUNS, Json, RunsDir, check_free, writing
from workbench.cli.output import errors, print_json, print_line, print_rows
from workbench.errors import print_error
from workbench.models.names import check_format, check_source, find_folder

if TYPE_CHECKING:
    from workbench.models.export import Exported


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN|MODEL",
            help="A run's id or directory (its newest checkpoint), a checkpoint, a model folder, or a model SPEC.",
            autocompletion=complete_source,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Output folder; new or empty.")],
    format: Annotated[
        str,
        typer.Option("--format", metavar="FORMAT", help="native, open_clip or onnx.", autocompletion=complete_format),
    ] = "native",
    half: Annotated[bool, typer.Option("--half", help="Round the weights to float16 (native and open_clip).")] = False,
    runs: RunsDir = DEFAULT_RUNS,
    json: Json = False,
) -> None:
    """Write a trained model for use elsewhere, without its training state.

    native: safetensors and JSON for workbench.load_student.
    open_clip: a folder that open_clip loads; all layers must have the same shape.
    onnx: image.onnx, text.onnx and config.json, for any layer shapes; checked with onnxruntime.

    Examples:

        workbench export clip-kd-s0-1122-1405 --out student

        workbench export half --format onnx --out deployed

        workbench export runs/ID/checkpoints/step-00000600 --format open_clip --half --out student
    """
    check_format(format, half=half)
    check_free(out)
    check_source(source, runs)
    from workbench.models.clip import count_parameters
    from workbench.models.export import MismatchError, export_model
    from workbench.models.spec import load_student

    folder = find_folder(source, runs)
    before_mb = _size_mb(folder) if folder else None
    model = load_student(folder or source, runs)
    try:
        with errors.status(f"writing and checking {format}"), writing(out):
            exported = export_model(model, out, format, half=half)
    except MismatchError as error:
        print_error(f"workbench: {error}")
        raise typer.Exit(1) from None
    num_params = count_parameters(model)
    use = _use(out, format, model.tokenizer.spec["kind"])
    if json:
        about = {"source": source, "dir": str(out.absolute()), "format": format, "half": half}
        sizes = {"files": exported.sizes, "size_mb": exported.size_mb, "source_size_mb": before_mb}
        difference = {"max_abs_difference": exported.max_abs_difference}
        print_json({**about, **sizes, "num_params": num_params, **difference, "use": use})
        return
    _print(source, format, before_mb, num_params["total"], exported)
    for line in use:
        print(line)


def _print(source: str, format: str, before_mb: float | None, num_params: int, exported: "Exported") -> None:
    print_rows(["file", "MB"], [[name, f"{size / 1e6:,.3f}"] for name, size in exported.sizes.items()])
    before = "" if before_mb is None else f" ({source}: {before_mb:,.3f} MB)"
    print_line(f"{exported.folder}: {exported.size_mb:,.3f} MB{before}; {num_params:,} parameters")
    print_line(f"checked as {format}: normalized embeddings differ by at most {exported.max_abs_difference:.1g}")
    print_line("use it:")


def _use(out: Path, format: str, tokenizer: str) -> list[str]:
    """Python code that loads the exported model."""
    if format == "native":
        return [
            "from workbench import load_student",
            f"student = load_student({str(out)!r})  # encode_image(uint8), encode_text(student.tokenizer(captions))",
        ]
    if format == "open_clip":
        made = f"open_clip.create_model_and_transforms({f'local-dir:{out}'!r})"
        rule = f"# tokenize captions by the rule in {out / 'tokenizer.json'}, not with open_clip's tokenizer"
        theirs = f"tokenizer = open_clip.get_tokenizer({f'local-dir:{out}'!r})"
        return ["import open_clip", f"model, _, preprocess = {made}", theirs if tokenizer == "bpe" else rule]
    return [
        "import onnxruntime",
        f"tower = onnxruntime.InferenceSession({str(out / 'image.onnx')!r})",
        f'image_BD, = tower.run(None, {{"image": images}})  # normalized as {out / "config.json"} describes',
    ]


def _size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
