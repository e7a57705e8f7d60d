"""Losses that live in a user's own file: loaded, called, and their mistakes said in one line."""

import importlib.util
import inspect
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
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
    """The one loss that a Python file defines: running the file is what loads it.

    Raises:
        ValueError: there is no such file, it may not run without ``--trust``, it does not run, or it defines no loss
            or several.
    """
    path = Path(file)
    spec = importlib.util.spec_from_file_location(f"workbench_user_loss_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise no_loss_file(file)
    check_trusted(path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's code may raise
        raise ValueError(f"{place_of(error, file)} does not run: {_said(error)}") from error
    found = defined_losses(module)
    if len(found) != 1:
        names = ", ".join(kind.__name__ for kind in found) or "none"
        unfinished = [kind.__name__ for kind in _subclasses(module) if inspect.isabstract(kind)]
        hint = f": {unfinished[0]} needs def __call__(self, comparison)" if unfinished and not found else ""
        raise ValueError(f"{file} should define one subclass of workbench.losses.Loss, and defines {names}{hint}")
    return found[0]


def defined_losses(module: ModuleType) -> list[type[Loss]]:
    """The losses that a module defines itself, not those that it imports."""
    return [kind for kind in _subclasses(module) if not inspect.isabstract(kind)]


def _subclasses(module: ModuleType) -> list[type[Loss]]:
    return [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Loss) and kind.__module__ == module.__name__
    ]


def check_made(loss: Loss) -> None:
    """Refuse a user's loss that cannot be called as losses are.

    Raises:
        ValueError: its constructor left out that of Loss, or its ``__call__`` takes something else.
    """
    if not hasattr(loss, "convention"):
        raise ValueError(f"{loss.file}: the __init__ of {type(loss).__name__} must call super().__init__(convention)")
    try:
        inspect.signature(loss).bind(None)
    except TypeError:
        line = type(loss).__call__.__code__.co_firstlineno
        raise ValueError(f"{loss.file}, line {line}: write it as def __call__(self, comparison)") from None


def value_of(loss: Loss, comparison: Comparison) -> Tensor:
    """The loss of one batch, 0-d.

    Raises:
        ValueError: a loss in a user's file fails, or returns no number to differentiate: one line with loss and file.
    """
    if not loss.file:
        return loss(comparison)
    with blaming(loss.name, loss.file):
        value: object = loss(comparison)
    if mistake := _mistake(value, comparison):
        raise ValueError(f"loss.{loss.name}: {loss.file}: __call__ returns {mistake}")
    assert isinstance(value, Tensor)
    return value


def _mistake(value: object, comparison: Comparison) -> str:
    """What is wrong with what a loss returned; empty if nothing is."""
    if not isinstance(value, Tensor):
        return f"{'nothing' if value is None else f'a {type(value).__name__}'}: {RULE}"
    if value.ndim:
        return f"a tensor of shape {list(value.shape)}: {RULE}, so end with .mean()"
    if not value.is_floating_point():
        return f"a tensor of {value.dtype}: {RULE} of floating point"
    student = comparison.student
    learns = student.image_BD.requires_grad or student.text_BD.requires_grad
    if torch.is_grad_enabled() and learns and not value.requires_grad:
        return (
            "a value without a gradient: compute it from comparison.student or comparison.projected, "
            "without detach(), item(), numpy() or no_grad()"
        )
    return ""


def copied(loss: Loss) -> Loss:
    """A copy, for a loss may count its calls; the loss itself where it holds what cannot be copied, such as a file."""
    try:
        return deepcopy(loss)
    except Exception:  # whatever a user's attributes may raise
        return loss


@contextmanager
def blaming(loss: str, file: str) -> Iterator[None]:
    """Say what a user's code raises in one line: the loss, the file, the line, and the error.

    Raises:
        ValueError: the code raised. Running out of memory is raised as it is: that is not the loss's mistake, and the
            engine says what helps.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if isinstance(error, RuntimeError) and "memory" in str(error):
            raise
        raise ValueError(f"loss.{loss}: {blamed(error, file)}") from error


def blamed(error: Exception, file: str) -> str:
    """The line of a user's file that an error comes from, and the error, in one line."""
    return f"{place_of(error, file)}: {_said(error)}"


def place_of(error: Exception, file: str) -> str:
    """The file, and the last of its lines that the error passed through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if isinstance(error, SyntaxError) and error.filename == file:
        lines.append(error.lineno)
    return f"{file}, line {lines[-1]}" if lines else file


def _said(error: Exception) -> str:
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
