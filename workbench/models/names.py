"""Names in a model SPEC and of export formats, checked without importing torch, so that a typo is reported quickly."""

import errno
import json
import os
import re
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from workbench.config.mixture import Part, mixture_parts, mixture_spec
from workbench.documents import read_json
from workbench.errors import reason, unknown
from workbench.models.tokenizer_files import check_installed, find_tokenizer, tokenizer_options
from workbench.resources import PACKAGE, find_resource
from workbench.runs.checkpoints import MANIFEST, checkpoints, newest_checkpoint, read_manifest
from workbench.runs.directory import RunDirectory, find_run, list_runs

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
OLDER_WEIGHTS = "open_clip_pytorch_model.bin"  # in folders from the hub
SIZES = PACKAGE / "models" / "sizes"
SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
SAMPLES = ("scenes", "emoji")
KINDS = "a built-in size, open_clip:NAME[@WEIGHTS], config:FILE.json[@WEIGHTS], sample:NAME, run:ID, a model folder"
CONFIG_KEYS = ("embed_dim", "vision_cfg", "text_cfg")  # that a JSON file needs to be a model config


class ModelSpec(NamedTuple):
    """A model SPEC in parts; ``weights`` is the part after @, or the path of a weights file without architecture.

    ``kind`` is "open_clip", "config", "sample", "run", "size", "folder" or "weights"; empty if it is none of these.
    """

    kind: str
    name: str
    weights: str = ""

    @property
    def weights_file(self) -> Path | None:
        """The weights file that it names, which may be missing; None for a pretrained tag of open_clip."""
        is_tag = self.kind == "open_clip" and not Path(self.weights).suffix and not Path(self.weights).is_file()
        return None if is_tag or not self.weights else Path(self.weights)

    @property
    def is_architecture(self) -> bool:
        """Whether it names an architecture without weights."""
        return self.kind in ("open_clip", "config", "size") and not self.weights


def parse_model(spec: str) -> ModelSpec:
    """A SPEC in parts, without checking that what it names exists."""
    prefix, colon, rest = spec.partition(":")
    if colon and prefix in ("open_clip", "config"):
        # The path of a config file may hold an @.
        is_path = prefix == "config" and Path(rest).is_file()
        name, _, weights = (rest, "", "") if is_path else rest.partition("@")
        return ModelSpec(prefix, name, weights)
    if colon and prefix in ("sample", "run"):
        return ModelSpec(prefix, rest)
    if spec in size_names():
        return ModelSpec("size", spec)
    if spec and Path(spec).is_dir():
        return ModelSpec("folder", spec)
    return ModelSpec("weights", "", spec) if is_weights_file(spec) else ModelSpec("", spec)


def absolute_spec(spec: str) -> str:
    """The SPEC with absolute paths, valid from every working directory."""
    if parts := mixture_parts(spec):
        return mixture_spec([Part(absolute_spec(one), weight) for one, weight in parts])
    kind, name, weights = parse_model(spec)
    if kind in ("open_clip", "config"):
        named = _absolute(name) if kind == "config" else name
        return f"{kind}:{named}@{_absolute(weights)}" if weights else f"{kind}:{named}"
    if kind == "run":
        return f"run:{_absolute(name)}" if "/" in name else spec
    return _absolute(spec) if kind in ("folder", "weights") else spec


def _absolute(path: str) -> str:
    """Paths that do not exist stay as they are: they are names, or an error will quote them."""
    return str(Path(path).absolute()) if Path(path).exists() else path


def check_model(spec: str, runs_dir: Path | None = None, *, needs_weights: bool = False) -> None:
    """Check that a SPEC names something that exists and is supported; of files, only model configs are read.

    Args:
        needs_weights: also refuse an architecture without weights.

    Raises:
        ValueError: in one line with the remedy.
    """
    parsed = parse_model(spec)
    match parsed.kind:
        case "open_clip" if (name := parsed.name.replace("/", "-")) not in (*open_clip_names(), *size_names()):
            raise unknown("open_clip model", name, [*open_clip_names(), *size_names()])
        case "config" if not Path(parsed.name).is_file():
            raise ValueError(f"cannot read the model config {parsed.name}: {os.strerror(errno.ENOENT)}")
        case "sample":
            sample_folder(parsed.name)
        case "run":
            _check_has_checkpoint(parsed.name, runs_dir)
        case "" if len(mixture_parts(spec)) > 1:
            raise ValueError(
                f"{spec} names several models, as only teacher.model and --teacher of evaluate may: name one"
            )
        case "":
            close = unknown("model", spec, [prefixed] if (prefixed := _prefixed(spec)) else size_names())
            raise ValueError(f"{close} (a model is {KINDS})")
    if parsed.weights_file:
        check_weights(parsed.weights_file)
    if config := _config_of(parsed):
        check_supported(config)
        check_tokenizer(config, spec, parsed.weights_file)
    if needs_weights and parsed.is_architecture:
        raise ValueError(
            f"{spec} names an architecture without weights: name sample:scenes, run:ID, a model folder, "
            "open_clip:NAME@/path/to/weights or config:FILE.json@/path/to/weights"
        )


def check_teacher(spec: str, runs_dir: Path | None = None) -> None:
    """:func:`check_model` of a teacher, or of each one in ``SPEC*2 + SPEC``, with weights."""
    for one in mixture_parts(spec) or [Part(spec, 1.0)]:
        check_model(one.spec, runs_dir, needs_weights=True)


def check_source(source: str, runs_dir: Path) -> None:
    """Raise ValueError unless a source is a run with a checkpoint, a model folder, or the SPEC of trained weights."""
    if is_run(source, runs_dir):
        _check_has_checkpoint(source.removeprefix("run:"), runs_dir)
    elif not Path(source).is_dir():
        _check_not_misspelled_run(source, runs_dir)
        check_model(source, runs_dir, needs_weights=True)


def find_folder(source: str | Path, runs_dir: Path = Path("runs")) -> Path | None:
    """The folder of a source's model; None if the source is another kind of SPEC."""
    name, folder = str(source), Path(source)
    if is_run(name, runs_dir):
        return run_folder(name.removeprefix("run:"), runs_dir)
    if folder.is_dir():
        if (folder / MANIFEST).exists():
            read_manifest(folder)
        return folder
    _check_not_misspelled_run(name, runs_dir)
    return None


def is_run(source: str, runs_dir: Path) -> bool:
    """Whether a run is named, by id, by directory or as ``run:ID``."""
    return source.startswith("run:") or any(RunDirectory(path).exists for path in (runs_dir / source, Path(source)))


def run_folder(run_id: str, runs_dir: Path | None) -> Path:
    """The newest complete checkpoint of a run, by id or directory; a checkpoint is a model folder."""
    run = find_run(runs_dir or Path("runs"), run_id)
    if (checkpoint := newest_checkpoint(run)) is None:
        raise _no_checkpoint(run)
    return checkpoint


def _check_has_checkpoint(run_id: str, runs_dir: Path | None) -> None:
    # By name only: newest_checkpoint reads all files to compare their checksums.
    run = find_run(runs_dir or Path("runs"), run_id)
    if not checkpoints(run):
        raise _no_checkpoint(run)


def _no_checkpoint(run: RunDirectory) -> ValueError:
    return ValueError(f"run {run.id} has no checkpoint yet: wait for one, or `workbench runs resume {run.id}`")


def _check_not_misspelled_run(name: str, runs_dir: Path) -> None:
    if ":" not in name and not is_weights_file(name):
        ids = [run.id for run in list_runs(runs_dir)]
        if get_close_matches(name, ids, n=1):
            raise unknown("run or model", name, ids)


def sample_folder(name: str) -> Path:
    """The model folder of ``sample:NAME``; ValueError if there is none."""
    folder = find_resource(f"data_samples/{name}/teacher") if name else None
    if folder is None:
        raise unknown("sample model", name, [one for one in SAMPLES if find_resource(f"data_samples/{one}/teacher")])
    return folder


def is_weights_file(spec: str) -> bool:
    """Whether a SPEC is the path of a weights file, which may be missing."""
    if _prefixed(spec):
        return False
    return Path(spec).is_file() or (":" not in spec and Path(spec).suffix in SUFFIXES)


def folder_name(source: str) -> str:
    """A folder name for a teacher, such as ``ViT-B-16-laion400m_e32``."""
    _, _, named = source.rpartition(":")
    model, _, weights = named.partition("@")
    architecture = Path(model).stem if model.endswith(".json") else model  # an open_clip name may hold a slash
    words = [architecture, Path(weights).name] if weights else [Path(model).name]
    joined = "-".join(word.removesuffix(Path(word).suffix) if is_weights_file(word) else word for word in words)
    return re.sub(r"[^A-Za-z0-9._]+", "-", joined).strip("-.") or "teacher"


def check_weights(path: Path) -> None:
    """Raise ValueError for a weights file that is missing or empty, with its path."""
    if not path.is_file():
        raise ValueError(f"no weights at {path}: check the path")
    if not path.stat().st_size:
        raise ValueError(f"cannot read weights from {path}: the file is empty; copy or download it again")


def fault_of_folder(folder: Path) -> str | None:
    """What is wrong with a model folder; None if it is complete. Weights are checked by size only."""
    from safetensors import SafetensorError, safe_open

    weights = WEIGHTS if (folder / WEIGHTS).exists() else OLDER_WEIGHTS
    if absent := [name for name in (CONFIG, weights) if not (folder / name).is_file()]:
        return f"{WEIGHTS if absent[0] == weights else CONFIG} is missing"
    try:
        json.loads((folder / CONFIG).read_bytes())
        if weights == WEIGHTS:
            # Reads the header alone, and compares the size that it implies with the file's: an interrupted copy is
            # shorter, and reading gigabytes to find out would be slow.
            with safe_open(folder / WEIGHTS, "numpy"):
                return None
    except (OSError, ValueError, SafetensorError):
        return f"{CONFIG} or {WEIGHTS} is damaged, or cut short"
    return None


def check_supported(config: Mapping[str, Any]) -> None:
    """Raise ValueError for model configs with a text decoder or with a text tower of transformers."""
    if config.get("multimodal_cfg"):
        raise ValueError(
            "this model config has a multimodal_cfg, a text decoder as CoCa's, and the workbench trains CLIP's two "
            "towers only: choose a CLIP, such as open_clip:ViT-B-32"
        )
    if name := _text_settings(config).get("hf_model_name"):
        raise ValueError(
            f"this model config has the text tower {name} of transformers, which is not supported: choose "
            "a CLIP with open_clip's own text tower, such as open_clip:ViT-B-32"
        )


def check_tokenizer(config: Mapping[str, Any], spec: str, weights: Path | None = None) -> None:
    """Check that the tokenizer of Hugging Face that a config names can be used, and is found for a weights file.

    Raises:
        ValueError: in one line with the remedy.
    """
    text = _text_settings(config)
    if not text.get("hf_tokenizer_name"):
        return
    try:
        check_installed(str(text["hf_tokenizer_name"]))
        tokenizer_options(text)
        if weights:  # that of a pretrained tag is downloaded with its weights
            find_tokenizer(text, weights.parent)
    except ValueError as error:
        raise ValueError(f"{spec}: {reason(error)}") from None


def _text_settings(config: Mapping[str, Any]) -> Mapping[str, Any]:
    text = config.get("text_cfg")
    return text if isinstance(text, dict) else {}


def _config_of(spec: ModelSpec) -> Mapping[str, Any]:
    """The model config that ``open_clip:`` or ``config:`` names; empty if unreadable, which the loader reports."""
    if spec.kind not in ("open_clip", "config"):
        return {}
    shipped = _shipped_configs() / f"{spec.name.replace('/', '-')}.json"
    try:
        content = read_json(Path(spec.name) if spec.kind == "config" else shipped)
    except (OSError, ValueError):
        return {}
    found = content.get("model_cfg", content) if isinstance(content, dict) else {}
    return found if isinstance(found, dict) else {}


def size_names() -> list[str]:
    """Names of the built-in sizes."""
    return [path.stem for path in SIZES.glob("*.json")]


def open_clip_names() -> tuple[str, ...]:
    """Architectures known to open_clip: its own list if it is loaded, otherwise its config files."""
    # The list includes architectures registered by the user; importing open_clip for it would take seconds.
    if loaded := sys.modules.get("open_clip"):
        return tuple(loaded.list_models())
    return shipped_names()


@cache
def shipped_names() -> tuple[str, ...]:
    """Architectures in the config files of the installed open_clip."""
    files = sorted(_shipped_configs().glob("*.json"))
    return tuple(file.stem for file in files if json.loads(file.read_text(encoding="utf-8")).keys() >= set(CONFIG_KEYS))


def _shipped_configs() -> Path:
    """The folder of the installed open_clip's config files."""
    package = find_spec("open_clip")
    assert package is not None and package.origin is not None
    return Path(package.origin).parent / "model_configs"


def _prefixed(spec: str) -> str:
    """The SPEC that was probably meant by an architecture name without prefix; empty otherwise."""
    name = spec.partition("@")[0]
    if name.endswith(".json"):
        return f"config:{spec}"
    return f"open_clip:{spec}" if name.replace("/", "-") in (*open_clip_names(), *size_names()) else ""


FORMATS = {
    "native": "a folder for workbench.load_student, any architecture",
    "open_clip": "a folder for open_clip alone, uniform architectures",
    "transformers": "a folder for transformers' CLIPModel, two plain transformers",
    "onnx": "a file for each tower, any architecture",
}
NEEDED = {"onnx": ("onnx", "onnxscript", "onnxruntime")}


def check_format(name: str, *, half: bool = False) -> None:
    """Check that a format exists and that its packages are installed, without importing them.

    Raises:
        ValueError: with the nearest name or the packages to install; or the format has no half precision.
    """
    from workbench.adapters.sink import PROJECT  # here, as an exported student is loaded without the adapters

    if name not in FORMATS:
        raise unknown("format", name, FORMATS)
    for package in NEEDED.get(name, ()):
        spec = find_spec(package)
        if spec is None or spec.origin is None:  # a folder with the package's name has no origin
            raise ValueError(f"{name} needs {package}, which is not installed: pip install '{PROJECT}[{name}]'")
    if half and name == "onnx":
        raise ValueError("onnx is written in float32: drop --half, and let the runtime convert (or quantize) it")
