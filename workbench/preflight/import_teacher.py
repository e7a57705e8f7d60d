"""Import a teacher: find its activation and image normalization, check that it beats chance, and save a folder."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from workbench.config.toml import load_run_config
from workbench.data.evaluation_set import EvaluationSet, open_evaluation_set
from workbench.data.spec import evaluated_splits
from workbench.engine.device import resolve_device
from workbench.engine.evaluate import Evaluator
from workbench.evaluation.agreement import BLOCK_SIZE, affinity_entropy
from workbench.evaluation.chance import CLEARLY, errors_above_chance
from workbench.files import new_folder
from workbench.models.architectures import (
    NORMALIZATIONS,
    Normalization,
    WeightsWarning,
    leaves_activation_open,
    normalizations_of,
)
from workbench.models.clip import Clip, count_parameters
from workbench.models.folder import save_folder
from workbench.models.names import is_weights_file
from workbench.models.spec import load_model, spec_of_file
from workbench.models.teacher import Teacher
from workbench.progress import phase
from workbench.runs.directory import find_run
from workbench.statistics.intervals import paired_gain

RECORD = "teacher.json"
DEFAULT_DATA = "samples:emoji"
CHUNK = 64  # pairs in one forward; the last is padded
DIRECTIONS = ("image_to_text_r1", "text_to_image_r1")


class Candidate:
    """A model measured as a teacher on some pairs."""

    def __init__(self, model: Clip, pairs: EvaluationSet) -> None:
        self.model = model
        device = resolve_device("auto")
        teacher = Teacher(model.to(device), chunk_size=CHUNK)
        self.evaluator = Evaluator(pairs, teacher, pairs.task, block_size=BLOCK_SIZE, device=device)
        self.measured = self.evaluator.measure_teacher()
        self.chance = self.evaluator.constant_baseline()

    @property
    def margin(self) -> float:
        """Standard errors by which its best metric is above chance."""
        return max(self._margin(name, self.measured.metrics[name], self.measured.errors[name]) for name in self._names)

    @property
    def largest_margin(self) -> float:
        """The margin of a perfect model on these pairs."""
        return max(self._margin(name, 1.0, 0.0) for name in self._names)

    @property
    def _names(self) -> set[str]:
        return self.chance.keys() & self.measured.metrics.keys()

    def _margin(self, name: str, value: float, error: float) -> float:
        return errors_above_chance(value, self.chance[name], len(self.measured.hits[name]), error)

    @cached_property
    def entropy(self) -> float:
        """Entropy of its image-to-text affinities, nats."""
        return affinity_entropy(self.evaluator.teacher_pairs())

    def is_clearly_below(self, other: "Candidate") -> bool:
        """Whether the recall of ``other`` is significantly higher on the same pairs."""
        mine, theirs = (
            np.concatenate([candidate.measured.hits[name].numpy() for name in DIRECTIONS])[None]
            for candidate in (self, other)
        )
        pairs = self.evaluator.pairs
        item_Q = np.concatenate([np.arange(pairs.num_images), pairs.caption_image_index_M.numpy()])
        return paired_gain(mine, theirs, item_N=item_Q).low > 0

    @property
    def recall(self) -> str:
        """R@1 in both directions, each with its chance level, as text."""
        both = (f"{self.measured.metrics[name]:.1%} (guessing {self.chance[name]:.1%})" for name in DIRECTIONS)
        return " and ".join(both)


@dataclass(frozen=True)
class ImportedTeacher:
    """A teacher that beats chance.

    ``other`` is the candidate with the other activation, where the source does not name one. ``normalized`` are those
    with other image normalizations, by their names, where pretrained weights of the architecture differ in them.
    """

    source: str
    data: str
    trial: Candidate
    other: Candidate | None
    normalized: dict[str, Candidate] = field(default_factory=dict)

    @property
    def uses_quick_gelu(self) -> bool:
        return bool(self.trial.model.config.get("quick_gelu"))

    def save(self, folder: Path) -> None:
        """Write a model folder for ``teacher.model``, with ``teacher.json``; on an error nothing is left.

        Raises:
            FileExistsError: the folder holds something.
            OSError: it cannot be written, or the disk is full.
        """
        with new_folder(folder) as building:
            save_folder(self.trial.model, building)
            (building / RECORD).write_text(json.dumps(self.record(), indent=2) + "\n", encoding="utf-8")

    def record(self) -> dict[str, Any]:
        """The content of ``teacher.json``: source, fingerprint, preprocessing and metrics."""
        model, measured, pairs = self.trial.model, self.trial.measured, self.trial.evaluator.pairs
        return {
            "source": self.source,
            "weights_sha256": Teacher(model).fingerprint(),
            "num_params": count_parameters(model),
            "width": model.width,
            "scale": float(model.scale),
            "bias": None if model.bias is None else float(model.bias),
            "preprocessing": {
                "image_size": model.image_size,
                "mean": model.mean,
                "std": model.std,
                "resize_mode": model.resizing.mode,
                "interpolation": model.resizing.interpolation,
            },
            "tokenizer": {"kind": model.tokenizer.spec["kind"], "vocab_size": model.tokenizer.vocab_size},
            "quick_gelu": self.uses_quick_gelu,
            "metrics_with_the_other_activation": self.other.measured.metrics if self.other else None,
            "metrics_with_other_normalizations": {
                name: other.measured.metrics for name, other in self.normalized.items()
            },
            "data": self.data,
            "data_fingerprint": pairs.fingerprint,
            "num_pairs": measured.num_pairs,
            "metrics": measured.metrics | {"affinity_entropy": self.trial.entropy},
            "errors": measured.errors,
            "guessing": self.trial.chance,
        }


def import_teacher(
    source: str,
    data: str | None = None,
    *,
    num_pairs: int = 0,
    runs_dir: Path = Path("runs"),
) -> ImportedTeacher:
    """Load a model, and check that it is a useful teacher for these pairs.

    Args:
        source: a model SPEC, or a file of weights; its tensor shapes decide the architecture.
        data: SPEC of the pairs; None takes the held-out pairs of a run or a sample teacher, or else the emoji.
        num_pairs: at most; 0 for all.

    Raises:
        ValueError: it cannot be loaded, or is not clearly above chance, with the likely cause.
    """
    # A file of weights does not name the activation (GELU or QuickGELU) or the image normalization it was trained with,
    # and the wrong one lowers recall without an error. All are measured, and the significantly best is taken.
    spec = spec_of_file(Path(source)) if is_weights_file(source) else source
    with phase(f"loading {source}"), warnings.catch_warnings():
        warnings.simplefilter("ignore", WeightsWarning)  # both are measured below
        model = load_model(spec, runs_dir=runs_dir)
    data = data or _own_data(spec, runs_dir)
    with phase(f"opening {data}"):
        pairs = open_evaluation_set(data, "validation", num_pairs)
    candidate, other = Candidate(model, pairs), None
    if candidate.largest_margin < CLEARLY:
        raise ValueError(f"{pairs.num_images} pairs of {data} are too few to tell a teacher from guessing: give more")
    if _leaves_activation_open(spec):
        other = Candidate(_variant(model, quick_gelu=not model.config.get("quick_gelu")), pairs)
        if candidate.is_clearly_below(other):
            candidate, other = other, candidate
    candidate, normalized = _best_normalized(candidate, _open_normalizations(spec))
    if candidate.margin < CLEARLY:
        raise ValueError(f"{source} does not beat guessing on {data}: {_diagnosis(candidate, other)}")
    return ImportedTeacher(source, data, candidate, other, normalized)


def _own_data(spec: str, runs_dir: Path) -> str:
    kind, _, name = spec.partition(":")
    if kind == "sample":
        return f"samples:{name}"
    if kind == "run":
        config = load_run_config(find_run(runs_dir, name).config_file)
        named = [held_out for split, held_out, _ in evaluated_splits(config.data) if split == "validation"]
        return named[0] if named else DEFAULT_DATA
    return DEFAULT_DATA


def _leaves_activation_open(spec: str) -> bool:
    """Whether the weights are a bare file; tags, runs, folders and some architectures imply their activation."""
    return is_weights_file(spec) or (_is_open_clips_file(spec) and leaves_activation_open(_architecture(spec)))


def _is_open_clips_file(spec: str) -> bool:
    return spec.startswith("open_clip:") and Path(spec.partition("@")[2]).is_file()


def _architecture(spec: str) -> str:
    return spec.removeprefix("open_clip:").partition("@")[0].replace("/", "-")


def _open_normalizations(spec: str) -> tuple[Normalization, ...]:
    """Normalizations of pretrained weights of the architecture, where the SPEC is a bare file and they differ."""
    if not _is_open_clips_file(spec):
        return ()
    known = normalizations_of(_architecture(spec))
    return known if len(known) > 1 else ()


def _best_normalized(candidate: Candidate, choices: Sequence[Normalization]) -> tuple[Candidate, dict[str, Candidate]]:
    """The candidate with the significantly best normalization, and the others by theirs; ``candidate`` if none is."""
    candidates = {Normalization(candidate.model.mean, candidate.model.std): candidate}
    for choice in choices:
        if choice not in candidates:
            candidates[choice] = Candidate(_variant(candidate.model, **choice._asdict()), candidate.evaluator.pairs)
    best = candidate
    for other in candidates.values():
        best = other if best.is_clearly_below(other) else best
    return best, {str(choice): other for choice, other in candidates.items() if other is not best}


def _variant(model: Clip, **changes: Any) -> Clip:
    """The same weights with another activation or normalization."""
    own = {"config": model.config} | model.preprocessing
    if "quick_gelu" in changes:
        changes["config"] = model.config | {"quick_gelu": changes.pop("quick_gelu")}
    arguments = own | changes
    made = Clip(arguments.pop("config"), model.tokenizer, **arguments)
    made.towers.load_state_dict(model.towers.state_dict())
    return made


def _diagnosis(candidate: Candidate, other: Candidate | None) -> str:
    """The likely cause for a model that is no better than chance."""
    measured = f"R@1 {candidate.recall} of {candidate.measured.num_pairs:,} pairs"
    activation = "with quick_gelu or without; " if other else ""
    for name, choice in NORMALIZATIONS.items():
        if choice == (candidate.model.mean, candidate.model.std):
            continue
        normalized = Candidate(_variant(candidate.model, **choice._asdict()), candidate.evaluator.pairs)
        if normalized.margin >= CLEARLY:
            return (
                f"{measured}; its images were normalized otherwise: with {name} it has {normalized.recall}; write "
                "these values into preprocess_cfg of a model folder"
            )
    tokenizer = candidate.model.tokenizer
    return (
        f"{measured}, {activation}other normalizations do not help: likely causes are another tokenizer than its own "
        f"({tokenizer.spec['kind']}, {tokenizer.vocab_size:,} ids), weights that were never trained, or pairs unlike "
        "its training data: name others with --data SPEC"
    )
