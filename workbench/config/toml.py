"""Configs as TOML: recipes that extend one another, and overrides from the command line."""

import re
import tomllib
from pathlib import Path
from typing import Any

from workbench.config.nearest import unknown
from workbench.config.run import RunConfig
from workbench.reading import UnreadableError, read_file
from workbench.resources import find_resource, list_resources

Table = dict[str, Any]
MOST_BYTES = 2**18  # recipes, studies and run.toml have some kilobytes
MOST_LEVELS = 32  # of tables and arrays within each other
# tomllib takes time that grows with the square of a dotted key's length.
LONG_KEY = re.compile(r"""(?<![\w"'-])(?:[\w"'-]++\s*+\.\s*+){200}""")


def read_toml(path: Path) -> Table:
    """The table in a TOML file.

    Raises:
        ValueError: the file is missing, no plain file, too large, or is not TOML, naming the line.
    """
    try:
        table = loads(read_file(path, MOST_BYTES).decode())
        if is_deeper(table, MOST_LEVELS):
            raise RecursionError
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    except UnreadableError:
        raise
    except RecursionError:
        raise ValueError(f"{path}: its tables or arrays are nested more than {MOST_LEVELS} deep") from None
    except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
        raise ValueError(f"{path} is not TOML: {error}") from None
    return table


def loads(text: str) -> Table:
    """The table in a text that may be anything.

    Raises:
        ValueError: it is not TOML.
        RecursionError: its arrays are nested too deeply, or a key has too many parts.
    """
    if LONG_KEY.search(text):
        raise RecursionError
    return tomllib.loads(text)


def is_deeper(value: Any, levels: int) -> bool:
    """Whether tables and arrays lie within each other more than ``levels`` deep."""
    layer = [value]
    for _ in range(levels + 1):
        layer = [
            one
            for outer in layer
            if isinstance(outer, dict | list)
            for one in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(layer)


def parse_override(text: str) -> Table:
    """``a.b=value`` as a nested table.

    Raises:
        ValueError: as :func:`split_override`.
    """
    key, parsed = split_override(text)
    for part in reversed(key.split(".")):
        parsed = {part: parsed}
    table: Table = parsed
    return table


def split_override(text: str) -> tuple[str, Any]:
    """``a.b=value`` as the key and the value, which is TOML; a bare word is a string.

    Raises:
        ValueError: there is no ``=``, or no key before it.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ValueError(f"--set {text!r}: write it as key=value, e.g. --set loss.icl.weight=2")
    try:
        (parsed,) = tomllib.loads(f"value = {value}").values()
    except ValueError:  # no TOML, or more than one value
        parsed = value.strip()
    return key.strip(), parsed


def merge(base: Table, changes: Table) -> Table:
    """``base`` with ``changes`` laid over it, table by table."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def recipes() -> dict[str, Path]:
    """Every recipe by name."""
    return list_resources("recipes", ".toml")


def recipe_table(name_or_file: str) -> Table:
    """A recipe with everything it extends laid beneath it. A file that it extends is looked for beside it.

    Raises:
        ValueError: no such recipe or file, or recipes that extend each other in a circle.
    """
    return _recipe_table(name_or_file, seen=())


def _recipe_table(name_or_file: str, seen: tuple[str, ...]) -> Table:
    if name_or_file in seen:
        raise ValueError(f"recipe '{name_or_file}' extends itself: {' -> '.join((*seen, name_or_file))}")
    path = _recipe_path(name_or_file)
    table = _with_whole_paths(read_toml(path), path.parent)
    parent = table.pop("extends", None)
    if parent is None:
        return table
    if not isinstance(parent, str):
        raise ValueError(f"{path}: extends names one recipe or file (got {parent!r})")
    if parent.endswith(".toml"):
        parent = str((path.parent / parent).resolve())
    return merge(_recipe_table(parent, (*seen, name_or_file)), table)


def _with_whole_paths(table: Table, folder: Path) -> Table:
    """``loss.NAME.file`` lies beside the recipe that names it; a run finds it from anywhere."""
    losses = table.get("loss")
    for loss in losses.values() if isinstance(losses, dict) else ():
        if isinstance(loss, dict) and isinstance(loss.get("file"), str) and loss["file"]:
            loss["file"] = str((folder / loss["file"]).resolve())
    return table


def _recipe_path(name_or_file: str) -> Path:
    if name_or_file.endswith(".toml"):
        return Path(name_or_file)
    path = find_resource(f"recipes/{name_or_file}.toml")
    if path is None:
        raise unknown("recipe", name_or_file, recipes())
    return path


def load_recipe(
    name_or_file: str, overrides: list[str] | None = None, *, seed: int | None = None, steps: int | None = None
) -> RunConfig:
    """The run that a recipe describes, with ``--set`` overrides applied in order, then ``--seed`` and ``--steps``.

    Raises:
        ValueError: an unknown recipe or key, or a bad value, in one line with the remedy.
    """
    table: Table = {"recipe": Path(name_or_file).name.removesuffix(".toml")} | recipe_table(name_or_file)
    config = RunConfig.parse(_overridden(table, overrides or []))
    config = config if seed is None else config.with_seed(seed)
    return config if steps is None else config.with_steps(steps)


def with_overrides(config: RunConfig, overrides: list[str]) -> RunConfig:
    """The run with ``--set`` overrides applied in order.

    Raises:
        ValueError: an unknown key or a bad value, in one line with the remedy.
    """
    return RunConfig.parse(_overridden(config.model_dump(mode="json"), overrides))


def with_settings(config: RunConfig, changes: Table) -> RunConfig:
    """The run with a table of changes laid over it.

    Raises:
        ValueError: an unknown key or a bad value, in one line with the remedy.
    """
    return RunConfig.parse(merge(config.model_dump(mode="json"), changes))


def _overridden(table: Table, overrides: list[str]) -> Table:
    for override in overrides:
        table = merge(table, _with_whole_paths(parse_override(override), Path()))
    return table


def load_run_config(path: Path) -> RunConfig:
    """The config that a run directory's ``run.toml`` holds; its ``[machine]`` and ``[sweep]`` are not part of it.

    Raises:
        ValueError: the file cannot be read, or a setting is not understood.
    """
    table = read_toml(path)
    for beside in ("machine", "sweep"):
        table.pop(beside, None)
    return RunConfig.parse(table)
