"""Reading configs from TOML: recipes, ``extends``, overrides from the command line, and changes to a running run."""

import difflib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from workbench.config.run import LossConfig, OptimizerConfig, RunConfig, with_scale
from workbench.documents import MOST_LEVELS, Table, parse_toml, too_deep
from workbench.documents import read_toml as read_toml  # noqa: PLC0414 - exported: the readers of run.toml take it from here
from workbench.errors import truncated, unknown
from workbench.files import resolved
from workbench.resources import find_resource, list_resources

MOST_EXTENDED = 32  # files in an ``extends`` chain
SCALED = (
    "evaluate",
    "log",
    "loss",
)  # groups with step counts that scale with num_steps; inheritance stages always fill the run


def parse_override(text: str) -> Table:
    """``a.b=value`` as a nested table."""
    return nested_key(*split_override(text))


def nested_key(key: str, value: Any) -> Table:
    """``value`` under a dotted key, as nested tables."""
    parts = key.split(".")
    if len(parts) > MOST_LEVELS:
        raise too_deep(truncated(key))
    for part in reversed(parts):
        value = {part: value}
    table: Table = value
    return table


def split_override(text: str) -> tuple[str, Any]:
    """Split ``a.b=value`` into the key and the value, parsed as TOML; a bare word is a string.

    Raises:
        ValueError: no ``=`` or no key before it, an integer beyond 64 bits, or arrays nested too deeply.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ValueError(f"--set {truncated(text)!r}: write it as key=value, e.g. --set loss.icl.weight=2")
    try:
        parsed = parse_toml(f"value = {value}", truncated(key))
    except tomllib.TOMLDecodeError:
        return key, value.strip()
    return key, parsed["value"] if len(parsed) == 1 else value.strip()  # a line break may start another key


def merge(base: Table, changes: Table) -> Table:
    """``base`` updated with ``changes``, recursively in tables."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def recipes() -> dict[str, Path]:
    """All recipes by name."""
    return list_resources("recipes", ".toml")


def recipe_table(name_or_file: str) -> Table:
    """A recipe merged with everything that it extends; files in ``extends`` are relative to its folder."""
    return extended_table(name_or_file, "recipe", _recipe_path)


def extended_table(
    name_or_file: str,
    kind: str,
    find: Callable[[str], Path],
    find_parent: Callable[[str], Path] | None = None,
) -> Table:
    """The table of a recipe or study, merged with everything that it extends.

    Args:
        kind: "recipe" or "study".
        find: maps a name to its file.
        find_parent: the same for names in ``extends``; default ``find``.

    Raises:
        ValueError: a file cannot be read or extends itself, or the chain is too long.
    """
    tables: list[Table] = []
    names, seen = [name_or_file], set[Path]()
    path = find(name_or_file)
    while True:
        table = read_toml(path)
        file = resolved(path)
        if file in seen:
            raise ValueError(f"{kind} '{names[-1]}' extends itself: {' -> '.join(names)}")
        seen.add(file)
        parent = table.pop("extends", None)
        tables.append(_with_absolute_paths(table, path.parent))
        if parent is None:
            break
        if not isinstance(parent, str):
            raise ValueError(f"{path}: extends must be the name of one {kind} or a file (got {parent!r})")
        if len(tables) == MOST_EXTENDED:
            raise ValueError(f"{kind} '{name_or_file}' extends a chain of more than {MOST_EXTENDED} files: merge some")
        path = resolved(path.parent / parent) if parent.endswith(".toml") else (find_parent or find)(parent)
        names.append(str(path) if parent.endswith(".toml") else parent)
    # From the oldest ancestor, so that each file overrides what it extends.
    return reduce(merge, reversed(tables))


def _with_absolute_paths(table: Table, folder: Path) -> Table:
    """Make the paths of recipe and loss files in a recipe or study absolute; they are relative to its folder."""

    def resolve(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            names_files = key == ".tuned"
            return {absolute(name, names_files): resolve(inner, f"{key}.{name}") for name, inner in value.items()}
        if isinstance(value, list):
            return [resolve(inner, key) for inner in value]
        return absolute(value, key.endswith((".recipe", ".warm_start", ".against", ".file")))

    def absolute(value: Any, names_file: bool) -> Any:
        is_file = names_file and isinstance(value, str) and value.endswith((".toml", ".py"))
        return str(resolved(folder / value)) if is_file else value

    return {key: resolve(value, f".{key}") for key, value in table.items()}


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
    """The config of a recipe, with ``--set`` overrides applied in order, then ``--seed`` and ``--steps``.

    Raises:
        ValueError: an unknown recipe or key, or a bad value, in one line with the remedy.
    """
    table: Table = {"recipe": Path(name_or_file).name.removesuffix(".toml")} | recipe_table(name_or_file)
    config = RunConfig.parse(_overridden(table, overrides or []))
    config = config if seed is None else config.with_seed(seed)
    return config if steps is None else at_length(config, steps, overrides or [])


def at_length(config: RunConfig, num_steps: int, overrides: Sequence[str]) -> RunConfig:
    """The config with another number of steps; intervals and phases scale in proportion unless ``overrides`` set them.

    Args:
        config: the config with the overrides applied.
    """
    losses = {name: {"file": loss.file} for name, loss in config.loss.items()}
    tables = [_change(override, losses) for override in overrides]
    for table in tables:
        train = table.get("train")
        given = train.get("num_steps", num_steps) if isinstance(train, dict) else num_steps
        if given != num_steps:
            raise ValueError(f"--steps {num_steps} and --set train.num_steps={given} differ: drop one of the two")
    # Explicit overrides of scaled settings win over the scaling: apply them again.
    scaled = config.with_steps(num_steps)
    for table in tables:
        if kept := {group: value for group, value in table.items() if group in SCALED}:
            scaled = with_settings(scaled, kept)
    return scaled


def with_overrides(config: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """The config with ``--set`` overrides applied in order."""
    return RunConfig.parse(_overridden(config.model_dump(mode="json"), overrides))


def with_settings(config: RunConfig, changes: Table) -> RunConfig:
    """The config updated with a table of changes."""
    return RunConfig.parse(merge(config.model_dump(mode="json"), changes))


def _overridden(table: Table, overrides: Sequence[str]) -> Table:
    for override in overrides:
        table = merge(table, _change(override, table.get("loss")))
    return table


def _change(override: str, losses: Any) -> Table:
    """What one ``--set`` changes: paths absolute, and a loss's temperature as its scale, which replaces an earlier one.

    Args:
        losses: the losses so far, by name; one with a ``file`` may have a temperature of its own.
    """
    change = _with_absolute_paths(parse_override(override), Path())
    changed = change.get("loss")
    if not isinstance(changed, dict):
        return change
    for name, loss in changed.items():
        known = losses.get(name) if isinstance(losses, dict) else None
        if not (isinstance(known, dict) and known.get("file")):
            changed[name] = with_scale(loss)
    return change


def load_run_config(path: Path) -> RunConfig:
    """The config in a run directory's ``run.toml``, without its ``[machine]`` and ``[sweep]`` tables."""
    table = read_toml(path)
    # They describe where and why the run was started, and are no settings.
    for extra in ("machine", "sweep"):
        table.pop(extra, None)
    return RunConfig.parse(table)


RATE = "optimizer.learning_rate"


def changeable(config: RunConfig) -> list[str]:
    """Dotted names of the settings that a running run accepts: the peak learning rate and the loss weights.

    A loss whose weight is always 0 cannot be enabled later: nothing was trained for it.
    """
    return [RATE, *(f"loss.{name}.weight" for name, loss in config.loss.items() if loss.schedule.is_ever_on)]


def check_changes(config: RunConfig, changes: Mapping[str, Any]) -> None:
    """Check changes to a running run.

    Raises:
        ValueError: the setting cannot be changed or the value is invalid, with the remedy.
    """
    settings = changeable(config)
    if not changes:
        raise ValueError(f"no changes given: set {' or '.join(settings)}")
    for setting, value in changes.items():
        if setting not in settings:
            _check_loss(config, setting, value)
            raise unknown("setting of a run under way", setting, settings)
        group, _, name = setting.rpartition(".")
        try:
            (OptimizerConfig if setting == RATE else LossConfig).parse({name: value})
        except ValueError as error:
            raise ValueError(f"{group}.{error}") from None


def _check_loss(config: RunConfig, setting: str, value: Any) -> None:
    """Refuse the weight of a loss that the run does not train with; the error gives the command for a fork."""
    group, _, rest = setting.partition(".")
    name, _, field = rest.rpartition(".")
    own = [loss for loss, of in config.loss.items() if of.schedule.is_ever_on]
    if (group, field) != ("loss", "weight") or name in own:
        return
    near = difflib.get_close_matches(name, own, n=1)
    meant = f"; did you mean 'loss.{near[0]}.weight'?" if near and name not in config.loss else ""
    raise ValueError(
        f"the run trains without loss.{truncated(name)} (it has {', '.join(own)}){meant or '.'} A loss can be added in "
        f"a fork, not under way: workbench runs fork RUN --set {truncated(setting)}={truncated(str(value))}"
    )
