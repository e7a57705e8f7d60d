"""Publish a finished run as a small model folder, with its metrics and a thinned log."""

import json
from pathlib import Path
from typing import Any

import torch

from workbench.config.run import RunConfig
from workbench.config.toml import load_run_config
from workbench.data.spec import evaluated_splits
from workbench.engine.build import make_evaluator
from workbench.engine.device import resolve_device
from workbench.evaluation.chance import beats_chance, mean_recall
from workbench.events import StepDone
from workbench.files import new_folder
from workbench.models.clip import count_parameters
from workbench.models.folder import load_folder, save_folder
from workbench.models.spec import load_model
from workbench.models.teacher import Teacher
from workbench.runs.directory import RunDirectory
from workbench.runs.log import read_history

METRICS, LOG, CONFIG = "metrics.json", "log.jsonl", "run.toml"


def publish_teacher(run: RunDirectory, folder: Path) -> dict[str, Any]:
    """Write the run's model to ``folder`` in half precision, and evaluate what was written.

    The folder also has ``metrics.json`` (measured after rounding), ``run.toml`` and a thinned ``log.jsonl``.

    Returns:
        the content of ``metrics.json``.

    Raises:
        ValueError: the run has no checkpoint, or names no held-out pairs.
        OSError: the folder is not empty, cannot be written, or the disk is full; nothing is left of it.
    """
    config = load_run_config(run.config_file)
    with new_folder(folder) as building:
        save_folder(load_model(f"run:{run.path}"), building, torch.float16)
        document = measure_teacher(building, config)
        texts = {
            METRICS: json.dumps(document, indent=2) + "\n",
            CONFIG: run.config_file.read_text(encoding="utf-8"),
            LOG: "".join(line + "\n" for line in _thinned(run)),
        }
        for name, text in texts.items():
            (building / name).write_text(text, encoding="utf-8")
    return document


def measure_teacher(folder: Path, config: RunConfig) -> dict[str, Any]:
    """Size and metrics of the model in ``folder`` on the splits that its config evaluates.

    ``at_chance`` names the splits on which it is no better than chance.
    """
    device = resolve_device(config.train.device)
    teacher_model = load_folder(folder).to(device)
    sizes = count_parameters(teacher_model)
    teacher = Teacher(teacher_model)
    document: dict[str, Any] = {"num_params": sizes, "weights_sha256": teacher.fingerprint(), "at_chance": []}
    for split, spec, number in evaluated_splits(config.data):
        evaluator = make_evaluator(
            spec, split, number, teacher, config.evaluate.block_size, device, bad_shards=config.data.bad_shards
        )
        measured = evaluator.measure_teacher()
        document[split] = {
            "data": spec,
            "num_pairs": measured.num_pairs,
            "metrics": measured.metrics,
            "errors": measured.errors,
            "chance": measured.chance,
        }
        recall, chance = mean_recall(measured.metrics), mean_recall(evaluator.blind())
        if beats_chance(recall, chance, measured.num_pairs) is False:
            document["at_chance"].append(split)
    return document


def _thinned(run: RunDirectory, num_steps: int = 100) -> list[str]:
    """About ``num_steps`` steps of the log."""
    events = read_history(run, (StepDone,)).events
    return [event.to_line() for event in events[:: max(1, len(events) // num_steps)]]
