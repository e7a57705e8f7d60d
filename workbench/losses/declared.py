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

TEMPERATURES = {"temperature": "scale", "tau": "scale", "teacher_temperature": "teacher_scale"}
# Here and not in scale.py and base.py, which import torch.
SCALES = ("student", "teacher", "own")
CONVENTIONS = ("paper", "released")
CANDIDATES = ("batch", "all")


class Declared(NamedTuple):
    """A loss's own settings with their defaults (``convention`` included), its paper and its published weights."""

    settings: dict[str, Any]
    paper: str
    published_weight: dict[str, float]


@cache
def declared_losses() -> dict[str, Declared]:
    """Built-in losses by name."""
    source = _Source(PACKAGE.glob("*.py"))
    found: dict[str, Declared] = {}
    for kind in source.classes:
        attributes = source.attributes(kind)
        if name := ast.literal_eval(attributes.get("name", ast.Constant(""))):
            paper, weights = (source.value(attributes[key]) for key in ("paper", "published_weight"))
            settings = {key: source.value(default) for key, default in source.settings(kind).items()}
            found[name] = Declared(settings, paper, weights)
    return dict(sorted(found.items()))


def settings_in_file(file: str) -> list[str] | None:
    """Settings of the loss in a user's file; None if they cannot be determined without running it.

    Raises:
        ValueError: the file is missing.
    """
    path = Path(file)
    if not path.is_file():
        raise no_loss_file(file)
    try:
        users = _Source([path]).classes
    except (SyntaxError, ValueError, OSError, RecursionError, MemoryError):
        return None
    source = _Source(PACKAGE.glob("*.py"))
    source.classes |= users
    losses = [name for name in users if ROOT in source.ancestors(name)]
    if len(losses) != 1 or ROOT in users:
        return None
    init = source.constructor(losses[0])
    # A decorator or **kwargs may change the signature.
    is_open = users[losses[0]].decorator_list or init.decorator_list or init.args.kwarg or init.args.vararg
    return None if is_open else list(source.settings(losses[0]))


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
        for option, check in {"convention": check_convention, "candidates": check_candidates}.items():
            if not config.file and option in options:
                try:
                    check(options[option])
                except ValueError as error:
                    raise ValueError(f"loss.{name}: {error}") from None


def check_name(name: str, file: str, known: Iterable[str]) -> None:
    """Raise ValueError for an unknown loss, or a user's loss with the name of a built-in one."""
    names = set(known)
    if file and name in names:
        raise ValueError(f"loss.{name}: this is the name of a built-in loss: rename the one in {file}")
    if not file and name not in names:
        raise unknown("loss", name, names)


def check_settings(name: str, options: Mapping[str, object], known: Sequence[str]) -> None:
    """Raise ValueError for the first setting that the loss does not have, with the nearest known one."""
    for option, value in options.items():
        if option not in known:
            _check_temperature(name, option, value, known)
            raise unknown(f"setting of loss.{name}", option, [*known, *LossConfig.model_fields])


def _check_temperature(name: str, option: str, value: object, known: Sequence[str]) -> None:
    """Raise an error for a temperature τ, with the scale 1/τ that is equivalent to it."""
    setting = TEMPERATURES.get(option, "")
    if setting not in known:
        return
    about = f"loss.{name}.{option}: the setting is called {setting}, and is 1/temperature"
    if isinstance(value, str):
        raise ValueError(f"{about}: write loss.{name}.{setting}={value if value in SCALES else 'VALUE'}")
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ValueError(f"{about}; a temperature is a positive number (got {value!r})")
    raise ValueError(f"{about}: a temperature of {value} is loss.{name}.{setting}={1 / value!r}")


def check_convention(convention: object) -> None:
    """Raise ValueError for an unknown convention, with the nearest known one."""
    if convention not in CONVENTIONS:
        raise unknown("convention", str(convention), CONVENTIONS)


def check_candidates(candidates: object) -> None:
    """Raise ValueError for anything but "batch" and "all"."""
    if candidates not in CANDIDATES:
        raise unknown("candidates", str(candidates), CANDIDATES)


class _Source:
    """Parsed Python files: class definitions by name, and the expressions assigned to module-level names."""

    def __init__(self, files: Iterable[Path]) -> None:
        self.classes: dict[str, ast.ClassDef] = {}
        self.constants: dict[str, ast.expr] = {}
        for file in sorted(files):
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    self.classes[node.name] = node
                self.constants.update(_assigned(node))

    def ancestors(self, kind: str) -> list[str]:
        """The class and its base classes, nearest first, up to :data:`ROOT` or the first that is not known."""
        line = [kind]
        while line[-1] in self.classes and line[-1] != ROOT and self.classes[line[-1]].bases:
            line.append(ast.unparse(self.classes[line[-1]].bases[0]).rpartition(".")[2])
        return line

    def attributes(self, kind: str) -> dict[str, ast.expr]:
        """Class attributes of a loss, inherited ones included; empty for other classes."""
        line = self.ancestors(kind)
        bodies = (self.classes[name].body for name in reversed(line)) if line[-1] == ROOT else ()
        return {name: value for body in bodies for node in body for name, value in _assigned(node)}

    def constructor(self, kind: str) -> ast.FunctionDef:
        """The ``__init__`` of a loss, its own or the nearest base class's."""
        nodes = (node for owner in self.ancestors(kind) for node in self.classes[owner].body)
        return next(node for node in nodes if isinstance(node, ast.FunctionDef) and node.name == "__init__")

    def settings(self, kind: str) -> dict[str, ast.expr]:
        """Constructor settings of a loss with their defaults; ``...`` for a required one."""
        arguments = self.constructor(kind).args
        names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
        required: list[ast.expr] = [ast.Constant(...)] * (len(names) - len(arguments.defaults))
        names += [argument.arg for argument in arguments.kwonlyargs]
        by_keyword = [default or ast.Constant(...) for default in arguments.kw_defaults]
        settings = dict(zip(names, [*required, *arguments.defaults, *by_keyword], strict=True))
        del settings[names[0]]  # self
        return settings

    def value(self, expression: ast.expr) -> Any:
        """The value of an expression of literals, arithmetic and module-level names."""
        names = {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}
        values = {name: self.value(self.constants[name]) for name in names}
        # Only expressions of this package's files come here; those of users' files are never evaluated.
        return eval(compile(ast.fix_missing_locations(ast.Expression(expression)), "<declared>", "eval"), values)


def _assigned(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """Names that a statement assigns to, with the assigned expressions."""
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
        yield node.target.id, node.value
    elif isinstance(node, ast.Assign):
        yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))
