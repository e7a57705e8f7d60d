"""Losses' settings, read from their source code: names are checked before torch is imported.

Files are parsed, not run, so that reading a user's file is safe.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from workbench.config.run import LossConfig
from workbench.errors import unknown

PACKAGE = Path(__file__).parent
ROOT = "Loss"  # the base class of all losses
CONVENTION = "Convention"  # the Literal of the values of `convention`

Classes = Mapping[str, ast.ClassDef]

TEMPERATURES = {"temperature": "scale", "tau": "scale", "teacher_temperature": "teacher_scale"}
SCALES = ("student", "teacher", "own")  # here and not in scale.py, which imports torch


class Declared(NamedTuple):
    """A loss's own settings with their defaults (``convention`` included), its paper and its published weights."""

    settings: dict[str, Any]
    paper: str
    published_weight: dict[str, float]


class _Source(NamedTuple):
    """Class definitions by name, and the expressions assigned to module-level names."""

    classes: dict[str, ast.ClassDef]
    constants: dict[str, ast.expr]


@cache
def declared_losses() -> dict[str, Declared]:
    """Built-in losses by name."""
    source = _read(sorted(PACKAGE.glob("*.py")))
    found: dict[str, Declared] = {}
    for kind in source.classes:
        attributes = _attributes(kind, source.classes)
        if name := ast.literal_eval(attributes.get("name", ast.Constant(""))):
            paper, weights = (_value(attributes[key], source) for key in ("paper", "published_weight"))
            settings = {key: _value(default, source) for key, default in _signature(kind, source.classes).items()}
            found[name] = Declared(settings, paper, weights)
    return dict(sorted(found.items()))


@cache
def conventions() -> tuple[str, ...]:
    """Values of the setting ``convention``."""
    literal = _read([PACKAGE / "base.py"]).constants[CONVENTION]
    assert isinstance(literal, ast.Subscript)
    return tuple(ast.literal_eval(literal.slice))


def settings_in_file(file: str) -> list[str] | None:
    """Settings of the loss in a user's file; None if they cannot be determined without running it.

    Raises:
        ValueError: the file is missing.
    """
    path = Path(file)
    if not path.is_file():
        raise no_loss_file(file)
    try:
        theirs = _read([path]).classes
    except (SyntaxError, ValueError, OSError, RecursionError, MemoryError):
        return None
    classes = _read(sorted(PACKAGE.glob("*.py"))).classes | theirs
    losses = [name for name in theirs if ROOT in _ancestors(name, classes)]
    if len(losses) != 1 or ROOT in theirs:
        return None
    init = _member(losses[0], "__init__", classes)
    # A decorator or **kwargs may change the signature.
    decorated = theirs[losses[0]].decorator_list or init.decorator_list
    return None if decorated or init.args.kwarg or init.args.vararg else list(_signature(losses[0], classes))


def no_loss_file(file: str) -> ValueError:
    """The error for a ``loss.NAME.file`` that does not exist."""
    return ValueError(f"no Python file at {file}: name the file that defines the loss")


def check_losses(losses: Mapping[str, LossConfig]) -> None:
    """Check the names of losses, settings and conventions, without loading a loss.

    Raises:
        ValueError: an unknown name, with the nearest known one; or a missing file.
    """
    for name, config in losses.items():
        options = config.options()
        check_name(name, config.file, declared_losses())
        known = settings_in_file(config.file) if config.file else list(declared_losses()[name].settings)
        if known is not None:
            check_settings(name, options, known)
        if not config.file and "convention" in options:
            try:
                check_convention(options["convention"], conventions())
            except ValueError as error:
                raise ValueError(f"loss.{name}: {error}") from None


def check_name(name: str, file: str, known: Iterable[str]) -> None:
    """Check that a loss exists, and that a user's loss does not take the name of a built-in one.

    Raises:
        ValueError: with the nearest name.
    """
    names = set(known)
    if file and name in names:
        raise ValueError(f"loss.{name}: this is the name of a built-in loss: rename the one in {file}")
    if not file and name not in names:
        raise unknown("loss", name, names)


def check_settings(name: str, options: Mapping[str, object], known: Iterable[str]) -> None:
    """Check that a loss has these settings.

    Raises:
        ValueError: the first unknown setting, with the nearest known one.
    """
    settings = list(known)
    for option, value in options.items():
        if option not in settings:
            _check_temperature(name, option, value, settings)
            raise unknown(f"setting of loss.{name}", option, [*settings, *LossConfig.model_fields])


def _check_temperature(name: str, option: str, value: object, parameters: Sequence[str]) -> None:
    """Raise an error for a temperature τ, with the scale 1/τ that is equivalent to it."""
    setting = TEMPERATURES.get(option, "")
    if setting not in parameters:
        return
    about = f"loss.{name}.{option}: the setting is called {setting}, and is 1/temperature"
    if isinstance(value, str):
        raise ValueError(f"{about}: write loss.{name}.{setting}={value if value in SCALES else 'VALUE'}")
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ValueError(f"{about}; a temperature is a positive number (got {value!r})")
    raise ValueError(f"{about}: a temperature of {value} is loss.{name}.{setting}={1 / value!r}")


def check_convention(convention: object, known: Sequence[str]) -> None:
    """Check a convention's name.

    Raises:
        ValueError: with the nearest name.
    """
    if convention not in known:
        raise unknown("convention", str(convention), known)


def _read(files: Iterable[Path]) -> _Source:
    source = _Source({}, {})
    for file in files:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                source.classes[node.name] = node
            source.constants.update(_assigned(node))
    return source


def _assigned(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """Names that a statement assigns to, with the assigned expressions."""
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
        yield node.target.id, node.value
    elif isinstance(node, ast.Assign):
        yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))


def _ancestors(kind: str, classes: Classes) -> list[str]:
    """The class and its base classes, nearest first, up to :data:`ROOT` or the first that is not in ``classes``."""
    line = [kind]
    while line[-1] in classes and line[-1] != ROOT and classes[line[-1]].bases:
        line.append(ast.unparse(classes[line[-1]].bases[0]).rpartition(".")[2])
    return line


def _attributes(kind: str, classes: Classes) -> dict[str, ast.expr]:
    """Class attributes of a loss, inherited ones included; empty for other classes."""
    line = _ancestors(kind, classes)
    if line[-1] != ROOT:
        return {}
    bodies = (classes[name].body for name in reversed(line))
    return {name: value for body in bodies for node in body for name, value in _assigned(node)}


def _member(kind: str, name: str, classes: Classes) -> ast.FunctionDef:
    """The method of this name, of the class or its nearest base class."""
    bodies = (classes[owner].body for owner in _ancestors(kind, classes))
    return next(node for body in bodies for node in body if isinstance(node, ast.FunctionDef) and node.name == name)


def _signature(kind: str, classes: Classes) -> dict[str, ast.expr]:
    """Constructor settings of a loss with their defaults; ``...`` for a required one."""
    init = _member(kind, "__init__", classes)
    names = [argument.arg for argument in (*init.args.posonlyargs, *init.args.args)]
    defaults: list[ast.expr] = [ast.Constant(...)] * (len(names) - len(init.args.defaults)) + init.args.defaults
    keywords = [argument.arg for argument in init.args.kwonlyargs]
    by_keyword = [default or ast.Constant(...) for default in init.args.kw_defaults]
    return dict(zip([*names[1:], *keywords], [*defaults[1:], *by_keyword], strict=True))


def _value(expression: ast.expr, source: _Source) -> Any:
    """The value of an expression of literals, arithmetic and module-level names."""
    names = {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}
    values = {name: _value(source.constants[name], source) for name in names}
    # Only expressions of this package's files come here; those of users' files are never evaluated.
    return eval(compile(ast.fix_missing_locations(ast.Expression(expression)), "<declared>", "eval"), values)
