"""Losses by name, and losses in users' files: loading and calling them, with their errors in one line."""

import importlib
import importlib.util
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from workbench.config.trust import check_trusted
from workbench.losses.base import Loss
from workbench.losses.comparison import Comparison
from workbench.losses.declared import check_name, check_settings, no_loss_file

RULE = "a loss is one number a batch, a 0-d tensor"


@cache
def built_in_losses() -> dict[str, type[Loss]]:
    """Every subclass of Loss in this folder, by name: a new loss needs a new file only."""
    files = pkgutil.iter_modules(sys.modules[__package__].__path__)
    modules = [importlib.import_module(f"{__package__}.{file.name}") for file in files]
    found = {kind.name: kind for module in modules for kind in _subclasses(module) if not inspect.isabstract(kind)}
    return dict(sorted(found.items()))


def make_loss(name: str, /, *, file: str = "", **options: Any) -> Loss:
    """The loss called ``name`` with its settings; with ``file``, the loss defined in this Python file.

    Raises:
        ValueError: an unknown loss or setting (suggests the nearest), a file that defines no loss, or a name that is
            already taken by a built-in loss.
    """
    check_name(name, file, built_in_losses())
    kind = _load_class(file) if file else built_in_losses()[name]
    check_settings(name, options, option_names(kind))
    _check_values(name, kind, options)
    try:
        loss = kind(**options)
    except (Exception, SystemExit) as error:
        if file and not isinstance(error, ValueError):
            raise ValueError(f"loss.{name}: {_location(error, file)}: {_in_one_line(error)}") from error
        if not isinstance(error, ValueError | TypeError):
            raise
        raise ValueError(f"loss.{name}: {error}") from None
    loss.name, loss.file = name, file
    if file:
        _check_callable(loss)
    return loss


def option_names(kind: type[Loss]) -> list[str]:
    """Names of a loss's own settings."""
    return list(inspect.signature(kind).parameters)


def _check_values(name: str, kind: type[Loss], options: Mapping[str, Any]) -> None:
    for option, parameter in inspect.signature(kind).parameters.items():
        is_required = parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        if is_required and option not in options:
            raise ValueError(f"loss.{name} needs a value: --set loss.{name}.{option}=VALUE, or a default in its file")
        value = options.get(option, False)
        if isinstance(parameter.default, bool) and not isinstance(value, bool):
            raise ValueError(f"loss.{name}.{option} is true or false (got {value!r})")


def _load_class(file: str) -> type[Loss]:
    """The loss that a user's file defines. Loading runs the file.

    Raises:
        ValueError: the file is missing, needs ``--trust``, raises an error, or does not define exactly one loss.
    """
    path = Path(file)
    spec = importlib.util.spec_from_file_location(f"workbench_user_loss_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise no_loss_file(file)
    check_trusted(path)
    module = importlib.util.module_from_spec(spec)
    try:
        digest = sha256(path.read_bytes()).hexdigest()
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever a user's code may raise
        raise ValueError(f"{_location(error, file)} does not run: {_in_one_line(error)}") from error
    found = _subclasses(module)
    complete = [kind for kind in found if not inspect.isabstract(kind)]
    if len(complete) != 1:
        names = ", ".join(kind.__name__ for kind in complete) or "none"
        hint = f": {found[0].__name__} needs def __call__(self, comparison)" if found and not complete else ""
        raise ValueError(f"{file} should define one subclass of workbench.losses.Loss, and defines {names}{hint}")
    complete[0].file_sha256 = digest
    return complete[0]


def _subclasses(module: ModuleType) -> list[type[Loss]]:
    """Subclasses of Loss that the module itself defines, abstract ones included."""
    kinds = (kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == module.__name__)
    return [kind for kind in kinds if issubclass(kind, Loss)]


def _check_callable(loss: Loss) -> None:
    """Check that a user's loss can be called like a built-in one: before training, not at the first step."""
    if not hasattr(loss, "convention"):
        raise ValueError(f"{loss.file}: the __init__ of {type(loss).__name__} must call super().__init__(convention)")
    try:
        inspect.signature(loss).bind(None)
    except TypeError:
        line = type(loss).__call__.__code__.co_firstlineno
        raise ValueError(f"{loss.file}, line {line}: write it as def __call__(self, comparison)") from None


def compute_loss(loss: Loss, comparison: Comparison) -> Tensor:
    """The loss of one batch, 0-d.

    Raises:
        ValueError: a user's loss raises an error or does not return a differentiable 0-d tensor; one line with loss and
            file.
    """
    if not loss.file:
        return loss(comparison)
    with user_file_errors(loss.name, loss.file):
        value: object = loss(comparison)
    if problem := _return_error(value, comparison):
        raise ValueError(f"loss.{loss.name}: {loss.file}: __call__ returns {problem}")
    assert isinstance(value, Tensor)
    return value


def _return_error(value: object, comparison: Comparison) -> str:
    """What is wrong with the return value of a loss; empty if it is valid."""
    if not isinstance(value, Tensor):
        return f"{'nothing' if value is None else f'a {type(value).__name__}'}: {RULE}"
    if value.ndim:
        return f"a tensor of shape {list(value.shape)}: {RULE}, so end with .mean()"
    if not value.is_floating_point():
        return f"a tensor of {value.dtype}: {RULE} of floating point"
    student = comparison.student
    learns = student.image_BD.requires_grad or student.text_BD.requires_grad
    # In an evaluation, or with a frozen student, a value without gradient is right.
    if torch.is_grad_enabled() and learns and not value.requires_grad:
        return (
            "a value without a gradient: compute it from comparison.student or comparison.projected, "
            "without detach(), item(), numpy() or no_grad()"
        )
    return ""


@contextmanager
def user_file_errors(loss: str, file: str) -> Iterator[None]:
    """Context that reports an error in a user's code as a ValueError in one line: loss, file, line and error."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):  # not the loss's fault: the engine adds its own remedy
        raise
    except (Exception, SystemExit) as error:
        # CPU allocation failures are plain RuntimeErrors.
        if isinstance(error, RuntimeError) and "memory" in str(error):
            raise
        raise ValueError(f"loss.{loss}: {_location(error, file)}: {_in_one_line(error)}") from error


def _location(error: BaseException, file: str) -> str:
    """The file, and the last of its lines in the error's traceback."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if isinstance(error, SyntaxError) and error.filename == file:
        lines.append(error.lineno)
    return f"{file}, line {lines[-1]}" if lines else file


def _in_one_line(error: BaseException) -> str:
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
