"""What ``--out`` names: free, or what is there already and whether it is whole."""

import os
import shlex
from contextlib import AbstractContextManager
from pathlib import Path

OUT_DIR, OUT_FILE = "--out DIR", "--out FILE"
ONNX = ("image.onnx", "text.onnx", "config.json", "tokenizer.json")


def check_free(out: Path, option: str = OUT_DIR) -> None:
    """Refuse at once what could not be written after minutes of work. Imports no torch.

    Raises:
        ValueError: there is something already, with whether it is whole and what to do; or it cannot be made.
    """
    if option == OUT_DIR and out.is_dir() and not any(out.iterdir()):
        return
    if out.exists():
        raise ValueError(f"{out} exists already{_state(out)} name another with {option}")
    there = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ValueError(f"cannot write {out}: {there} is no folder to write in; name another with {option}")


def writing(out: Path, option: str = OUT_DIR) -> AbstractContextManager[None]:
    """``with writing(out)``: an OSError is a ValueError of one line that names ``out`` and the option."""
    from workbench.files import explained

    return explained(out, f"name another with {option}")


def _state(out: Path) -> str:
    """What is there, whether it is whole, and what to do."""
    use, fault = _examined(out)
    if fault:
        removed = shlex.join(["rm", *(["-r"] if out.is_dir() else []), str(out)])
        return f", but is incomplete ({fault}): remove it ({removed}), or"
    if use:
        return f", and is whole: {use}, or"
    names = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    return f" and holds {names[0]}:" if names else ":"


def _examined(out: Path) -> tuple[str, str | None]:
    """How to use what a command has written there, and what is missing of it; empty of anything else."""
    from workbench.data.samples.write import CHECKSUMS, INDEX, fault_of_samples
    from workbench.models.names import CONFIG, WEIGHTS, fault_of_folder

    def has(*files: str) -> bool:
        return any((out / file).is_file() for file in files)

    name = shlex.quote(str(out))
    if out.is_file():
        return f"train with it (workbench train --recipe {name})", _fault_of_recipe(out)
    if has(CONFIG, WEIGHTS):
        return f"measure it (workbench evaluate {name} --data SPEC)", fault_of_folder(out)
    if has(*ONNX[:2]):
        missing = [f"{file} is missing" for file in ONNX if not has(file)]
        return f"use it as {name}/config.json says", next(iter(missing), None)
    if has(CHECKSUMS, INDEX):
        return f"look at it (workbench data check {name})", fault_of_samples(out)
    return "", None


def _fault_of_recipe(file: Path) -> str | None:
    from workbench.config.toml import load_recipe

    try:
        load_recipe(str(file))
    except ValueError as error:
        return str(error)
    return None
