"""Losses in users' files: loading and calling them, with their errors reported in one line."""

import importlib.util
import inspect
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from workbench.config.trust import check_trusted
from workbench.losses.base import Loss
from workbench.losses.comparison import Comparison
from workbench.losses.declared import no_loss_file

RULE = "a loss is one number a batch, a 0-d tensor"


def load_loss_class(file: str) -> type[Loss]:
    """The loss that a Python file defines. Loading runs the file.

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
        raise ValueError(f"{error_location(error, file)} does not run: {_error_text(error)}") from error
    found = defined_losses(module)
    if len(found) != 1:
        names = ", ".join(kind.__name__ for kind in found) or "none"
        unfinished = [kind.__name__ for kind in _subclasses(module) if inspect.isabstract(kind)]
        hint = f": {unfinished[0]} needs def __call__(self, comparison)" if unfinished and not found else ""
        raise ValueError(f"{file} should define one subclass of workbench.losses.Loss, and defines {names}{hint}")
    found[0].file_sha256 = digest
    return found[0]


def defined_losses(module: ModuleType) -> list[type[Loss]]:
    """Losses defined in a module itself, without imported ones."""
    return [kind for kind in _subclasses(module) if not inspect.isabstract(kind)]


def _subclasses(module: ModuleType) -> list[type[Loss]]:
    return [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Loss) and kind.__module__ == module.__name__
    ]


def check_callable(loss: Loss) -> None:
    """Check that a user's loss can be called like a built-in one.

    Raises:
        ValueError: its constructor does not call that of Loss, or its ``__call__`` has another signature.
    """
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


def copy_loss(loss: Loss) -> Loss:
    """A deep copy, as a loss may hold state; the loss itself if it cannot be copy_loss (an open file, for example)."""
    try:
        return deepcopy(loss)
    except (Exception, SystemExit):  # whatever a user's attributes may raise
        return loss


@contextmanager
def user_file_errors(loss: str, file: str) -> Iterator[None]:
    """Report an error in a user's code in one line: loss, file, line and error.

    Raises:
        ValueError: the code raised. Out-of-memory errors are passed on: the loss is not at fault, and the engine adds
            its own remedy.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except (Exception, SystemExit) as error:
        # CPU allocation failures are plain RuntimeErrors.
        if isinstance(error, RuntimeError) and "memory" in str(error):
            raise
        raise ValueError(f"loss.{loss}: {describe_error(error, file)}") from error


def describe_error(error: BaseException, file: str) -> str:
    """The error in one line, with the line of the user's file that it comes from."""
    return f"{error_location(error, file)}: {_error_text(error)}"


def error_location(error: BaseException, file: str) -> str:
    """The file, and the last of its lines in the error's traceback."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if isinstance(error, SyntaxError) and error.filename == file:
        lines.append(error.lineno)
    return f"{file}, line {lines[-1]}" if lines else file


def _error_text(error: BaseException) -> str:
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
