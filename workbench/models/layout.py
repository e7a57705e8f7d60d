"""Which files a model folder has, and which models there are by name: known without importing torch."""

import json
from importlib.util import find_spec
from pathlib import Path

from workbench.config.nearest import unknown
from workbench.resources import PACKAGE, find_resource, list_resources
from workbench.runs.directory import RunDirectory, find_run, list_runs

CONFIG, WEIGHTS, TOKENIZER = "open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json"
OLDER_WEIGHTS = "open_clip_pytorch_model.bin"  # in folders from the hub
SIZES = PACKAGE / "models" / "sizes"
FORMS = (
    "a built-in size",
    "open_clip:NAME[@WEIGHTS]",
    "config:FILE.json[@WEIGHTS]",
    "sample:NAME",
    "run:ID",
    "a model folder",
)
HEADER_BYTES = 8


def sizes() -> list[str]:
    """The built-in sizes."""
    return [path.stem for path in SIZES.glob("*.json")]


def check_named(source: str, runs_dir: Path, *, takes_runs: bool = False) -> None:
    """Refuses a model SPEC that names nothing; whether it can be loaded is not looked at.

    Args:
        takes_runs: a run's id or folder will do, without ``run:``.

    Raises:
        ValueError: there is no such run, sample model, folder or size, with the nearest name.
    """
    kind, colon, rest = source.partition(":")
    if colon and kind == "run":
        find_run(runs_dir, rest)
    elif colon and kind == "sample" and find_resource(f"data_samples/{rest}/teacher") is None:
        shipped = list_resources("data_samples", "")
        raise unknown("sample model", rest, [name for name in shipped if find_resource(f"data_samples/{name}/teacher")])
    elif not colon and not _is_there(source, runs_dir, takes_runs):
        runs = [run.id for run in list_runs(runs_dir)] if takes_runs else []
        close = unknown("run or model" if takes_runs else "model", source, [*runs, *sizes()])
        raise ValueError(f"{close} (a model is {', '.join(FORMS)})")


def _is_there(source: str, runs_dir: Path, takes_runs: bool) -> bool:
    if takes_runs and any(RunDirectory(path).exists for path in (runs_dir / source, Path(source))):
        return True
    architecture = source.partition("@")[0]  # a name that lacks its kind is answered with it, once torch is there
    if Path(source).suffix:  # a file of weights or a config, perhaps missing: the loader says which
        return True
    is_prefixless = architecture.replace("/", "-") in (*sizes(), *_open_clips())
    return is_prefixless or (source != "" and Path(source).exists())


def _open_clips() -> list[str]:
    found = find_spec("open_clip")
    places = found.submodule_search_locations if found else None
    return [path.stem for place in places or () for path in Path(place, "model_configs").glob("*.json")]


def fault_of_folder(folder: Path) -> str | None:
    """What keeps a model folder from being whole; None of one that is. Weights are measured, not read."""
    try:
        json.loads((folder / CONFIG).read_bytes())
        is_whole = (folder / OLDER_WEIGHTS).is_file() or _are_whole(folder / WEIGHTS)
        return None if is_whole else f"{WEIGHTS} is cut short"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError):
        return f"{CONFIG} or {WEIGHTS} is damaged"


def _are_whole(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says."""
    with path.open("rb") as file:
        num_header = int.from_bytes(file.read(HEADER_BYTES), "little")
        if num_header > path.stat().st_size:
            return False
        tensors = json.loads(file.read(num_header))
    ends = [tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"]
    return path.stat().st_size == HEADER_BYTES + num_header + max(ends, default=0)
