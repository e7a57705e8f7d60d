"""``workbench export`` and ``runs export``: a model for use elsewhere, and a run's log for other tools."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.adapters.export import TOOLS, check_tool, export_command, open_sink, start_export
from workbench.adapters.export import export as copy
from workbench.adapters.hub import check_login, push_folder, repo_of
from workbench.cli.completion import complete_format, complete_source, complete_tool
from workbench.cli.options import DEFAULT_RUNS, Json, Run, RunsDir, check_free, writing
from workbench.cli.output import errors, print_json, print_line, print_note, print_rows
from workbench.config.inheritance import TOWERS
from workbench.errors import print_error, reason
from workbench.models.names import check_format, check_source, find_folder
from workbench.runs.checkpoints import checkpoint_step
from workbench.runs.directory import RunDirectory, find_run

if TYPE_CHECKING:
    from workbench.models.clip import Clip
    from workbench.models.export import Exported


Source = Annotated[
    str,
    typer.Argument(
        metavar="RUN|MODEL",
        help="A run's id or directory (its newest checkpoint), a checkpoint, a model folder, or a model SPEC.",
        autocompletion=complete_source,
    ),
]
Format = Annotated[
    str,
    typer.Option(
        "--format", metavar="FORMAT", help="native, open_clip, transformers or onnx.", autocompletion=complete_format
    ),
]


Card = Annotated[
    bool,
    typer.Option("--card", help="Add a model card, README.md: data, recipe, metrics with intervals, departures."),
]
Push = Annotated[
    str | None,
    typer.Option("--push", metavar="hf:USER/NAME", help="Upload the folder to the Hugging Face Hub, in one commit."),
]


def export(
    source: Source,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Output folder; new or empty.")],
    format: Format = "native",
    half: Annotated[bool, typer.Option("--half", help="Round the weights to float16 (all but onnx).")] = False,
    card: Card = False,
    push: Push = None,
    private: Annotated[bool, typer.Option("--private", help="With --push: create a private repository.")] = False,
    runs: RunsDir = DEFAULT_RUNS,
    json: Json = False,
) -> None:
    """Write a trained model for use elsewhere, without its training state.

    native: safetensors and JSON for workbench.load_student.
    open_clip: a folder that open_clip loads; all layers must have the same shape.
    transformers: a folder that transformers' CLIPModel loads; two plain towers.
    onnx: image.onnx, text.onnx and config.json, for any layer shapes; checked with onnxruntime.

    Examples:

        workbench export clip-kd-s0-1122-1405 --out student
        workbench export half --format onnx --out deployed
        workbench export runs/ID/checkpoints/step-00000600 --format open_clip --half --out student
        workbench export clip-kd-s0-1122-1405 --format open_clip --card --push hf:me/small-clip --out student
    """
    check_format(format, half=half)
    check_free(out)
    check_source(source, runs)
    repo = _checked_repo(push, private=private)
    from workbench.models.clip import count_parameters
    from workbench.models.export import MismatchError, export_model
    from workbench.models.spec import load_student

    folder = find_folder(source, runs)
    before_mb = _size_mb(folder) if folder else None
    checkpoint = _run_checkpoint(source, folder) if card else None
    model = load_student(folder or source, runs)
    use = _use(out, format, model.tokenizer.spec["kind"])
    documents = _card(model, checkpoint, format, repo) if checkpoint else {}
    try:
        with errors.status(f"writing and checking {format}"), writing(out):
            exported = export_model(model, out, format, half=half, documents=documents)
    except MismatchError as error:
        print_error(f"workbench: {error}")
        raise typer.Exit(1) from None
    num_params = count_parameters(model)
    url = _pushed(out, repo, source, private=private)
    if json:
        about = {"source": source, "dir": str(out.absolute()), "format": format, "half": half}
        sizes = {"files": exported.sizes, "size_mb": exported.size_mb, "source_size_mb": before_mb}
        difference = {"max_abs_difference": exported.max_abs_difference}
        print_json({**about, **sizes, "num_params": num_params, **difference, "use": use, "url": url})
        return
    _print_exported(source, format, before_mb, num_params["total"], exported)
    for line in use:
        print(line)
    if url:
        print_line(f"uploaded: {url}")


def _checked_repo(push: str | None, *, private: bool) -> str:
    """The repository of ``--push``, once the Hub has accepted the token; empty without the option."""
    if push is None:
        if private:
            raise ValueError("--private needs --push hf:USER/NAME")
        return ""
    repo = repo_of(push)
    with errors.status("asking the Hugging Face Hub"):
        check_login(repo)
    return repo


def _run_checkpoint(source: str, folder: Path | None) -> Path:
    """The checkpoint of a run, whose log and config a card needs."""
    if folder is None or not RunDirectory(folder.absolute().parents[1]).exists:
        raise ValueError(f"--card needs a run, since its log has the results, and {source} is a model: drop --card")
    return folder.absolute()


def _card(model: "Clip", checkpoint: Path, format: str, repo: str) -> dict[str, bytes]:
    """The model card as a file of the exported folder."""
    from workbench.models.clip import count_parameters
    from workbench.results.card import CARD, model_card

    run, home = RunDirectory(checkpoint.parents[1]), Path(repo.partition("/")[2] or "student")
    num_params = {"total": count_parameters(model)["total"]}
    num_params |= {tower: count_parameters(model, tower)["total"] for tower in TOWERS}
    use = _use(home, format, model.tokenizer.spec["kind"])
    if repo:
        use = [f"# hf download {repo} --local-dir {home}", *use]
    step = checkpoint_step(checkpoint)
    card = model_card(run, step, num_params=num_params, format=format, use=use, size_px=model.image_size)
    return {CARD: card.encode()}


def _pushed(out: Path, repo: str, source: str, *, private: bool) -> str:
    """Uploads the folder, and returns the commit's URL; empty without a repository."""
    if not repo:
        return ""
    try:
        with errors.status(f"uploading to {repo}"):
            return push_folder(out, repo, f"workbench export {Path(source).name}", private=private)
    except ValueError as error:
        raise ValueError(f"{error}; the export is complete in {out}") from None


def _print_exported(source: str, format: str, before_mb: float | None, num_params: int, exported: "Exported") -> None:
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
        return [
            "import open_clip",
            f"model, _, preprocess = {made}",
            theirs if tokenizer in ("bpe", "huggingface") else rule,
        ]
    if format == "transformers":
        lines = ["from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer"]
        lines.append(
            f"model, preprocess = (one.from_pretrained({str(out)!r}) for one in (CLIPModel, CLIPImageProcessor))"
        )
        theirs = "tokenizer = CLIPTokenizer.from_pretrained('openai/clip-vit-base-patch32')"
        return [
            *lines,
            theirs if tokenizer == "bpe" else "# tokenize captions with the workbench: it has its own vocabulary",
        ]
    return [
        "import onnxruntime",
        f"tower = onnxruntime.InferenceSession({str(out / 'image.onnx')!r})",
        f'image_BD, = tower.run(None, {{"image": images}})  # normalized as {out / "config.json"} describes',
    ]


def _size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


# ``workbench runs export`` and ``--log-to``: a run in TensorBoard, Weights & Biases or trackio.

OUTCOME_WAIT_S = 10.0
NICENESS = 10

LogTo = Annotated[
    list[str] | None,
    typer.Option(
        "--log-to",
        metavar="TOOL",
        help="Also log to tensorboard, wandb or trackio, from a separate process. Repeatable.",
        autocompletion=complete_tool,
    ),
]


def check_tools(tools: list[str] | None) -> None:
    """Refuse a tool that is unknown or not installed, before training starts."""
    for tool in tools or []:
        check_tool(tool)


Tool = Annotated[
    str, typer.Option("--to", metavar="TOOL", help="tensorboard, wandb or trackio.", autocompletion=complete_tool)
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Write to DIR/TOOL.", show_default="the run's folder's parent"),
]


def export_run(
    run: Run,
    tool: Tool,
    follow: Annotated[bool, typer.Option("--follow", help="Follow the run until it ends.")] = False,
    out: Out = None,
    runs: RunsDir = DEFAULT_RUNS,
    json: Json = False,
) -> None:
    """Export a run's log to TensorBoard, Weights & Biases (offline) or trackio.

    Includes config, losses, weighted losses, scales, learning rate, speed and metrics; replaces an earlier export.

    To log while training: workbench train --log-to tensorboard

    Examples:

        workbench runs export clip-kd-s0-1122-1405 --to tensorboard
        workbench runs export clip-kd-s0-1122-1405 --to wandb --follow
    """
    directory = find_run(runs, run)
    check_tool(tool)
    if follow:
        os.nice(NICENESS)  # training has priority
        if errors.is_terminal:
            print_note(f"following {directory.id} until it ends; Ctrl-C stops the export, not the run")
    folder = out or directory.path.parent
    try:
        exported = copy(directory, lambda: open_sink(tool, directory, folder), follows=follow)
    except Exception as error:  # a third-party tool may raise anything
        if os.environ.get("WORKBENCH_DEBUG"):
            raise
        again = f"retry with: {export_command(directory, tool)} [--out DIR]"
        print_error(f"workbench: {_failure(tool, error)}; the run is not affected; {again}")
        raise typer.Exit(1) from None
    if json:
        print_json({"id": directory.id, "to": tool, **exported._asdict()})
        return
    print_line(f"{directory.id} is in {TOOLS[tool]} up to step {exported.step}; {exported.next}")


def _failure(tool: str, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{tool} failed: {error.strerror}" + (f": {error.filename}" if error.filename else "")
    return f"{tool} failed: {reason(error)}"


@contextmanager
def logging_to(directory: RunDirectory, tools: list[str] | None) -> Iterator[None]:
    """While the run trains, export processes follow it; their results are printed to stderr at the end."""
    copies = []
    for tool in dict.fromkeys(tools or []):
        try:
            copies.append(start_export(directory, tool))
        except (ValueError, OSError) as error:
            print_error(f"workbench: warning: {error}; the run continues without {tool}")
    code = None
    try:
        yield
    except typer.Exit as exit_:
        code = exit_
    for process in copies:
        print_error(process.outcome(OUTCOME_WAIT_S))
    if code:
        raise code
