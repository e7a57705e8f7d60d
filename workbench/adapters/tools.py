"""The tools by name."""

import shlex
from importlib.util import find_spec
from pathlib import Path

from workbench.adapters.sink import PROJECT, Sink
from workbench.config.nearest import unknown
from workbench.runs.directory import RunDirectory

TOOLS = {"tensorboard": "TensorBoard", "wandb": "Weights & Biases", "trackio": "trackio"}


def check_tool(tool: str) -> None:
    """Whether a tool is known and installed, without importing it.

    Raises:
        ValueError: it is not; in one line with the nearest name, or what to install.
    """
    if tool not in TOOLS:
        raise unknown("tool", tool, TOOLS)
    spec = find_spec(tool)
    if spec is None or spec.origin is None:  # a folder of the tool's name, such as its own output, has no origin
        raise ValueError(f"{TOOLS[tool]} is not installed: pip install '{PROJECT}[{tool}]'")


def open_sink(tool: str, run: RunDirectory, folder: Path) -> Sink:
    """A fresh copy of the run in a tool, under ``folder``; the tool is imported now."""
    match tool:
        case "tensorboard":
            from workbench.adapters.tensorboard import TensorBoardSink

            return TensorBoardSink(run, folder)
        case "wandb":
            from workbench.adapters.wandb import WandbSink

            return WandbSink(run, folder)
        case "trackio":
            from workbench.adapters.trackio import TrackioSink

            return TrackioSink(run, folder)
    raise AssertionError(tool)


def export_command(run: RunDirectory, tool: str) -> str:
    """How to copy the run again, whatever became of the first time."""
    return f"workbench runs export {shlex.quote(str(run.path))} --to {tool}"
