"""Losses that live in a user's own file."""

import importlib.util
import inspect
from pathlib import Path
from types import ModuleType

from workbench.losses.base import Loss
from workbench.losses.declared import no_loss_file


def load_loss_class(file: str) -> type[Loss]:
    """The one loss that a Python file defines: running the file is what loads it.

    Raises:
        ValueError: there is no such file, it does not run, or it defines no loss or several.
    """
    path = Path(file)
    spec = importlib.util.spec_from_file_location(f"workbench_user_loss_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise no_loss_file(file)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's code may raise
        raise ValueError(f"{file} does not run: {type(error).__name__}: {error}") from error
    found = defined_losses(module)
    if len(found) != 1:
        names = ", ".join(kind.__name__ for kind in found) or "none"
        raise ValueError(f"{file} should define one subclass of workbench.losses.Loss, and defines {names}")
    return found[0]


def defined_losses(module: ModuleType) -> list[type[Loss]]:
    """The losses that a module defines itself, not those that it imports."""
    return [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Loss) and not inspect.isabstract(kind) and kind.__module__ == module.__name__
    ]
