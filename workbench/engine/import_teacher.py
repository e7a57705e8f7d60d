"""Taking in a teacher from elsewhere: does it work here, and as what; and a folder that holds it."""

import json
import math
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
from workbench.files import new_folder
from workbench.models.clip import Clip
from workbench.models.counting import count_parameters
from workbench.models.folder import save_folder
from workbench.models.names import is_weights_file
from workbench.models.preprocessing import NORMALIZATIONS, Normalization, NormalizationWarning, normalizations_of
from workbench.models.spec import load_model, spec_of_file
from workbench.models.teacher import Teacher
from workbench.progress import phase
from workbench.runs.directory import find_run
from workbench.statistics.intervals import paired_gain

RECORD = "teacher.json"
DEFAULT_DATA = "samples:emoji"
CHUNK = 64  # pairs in one forward: a teacher pads the last
CLEAR = 5.0  # standard errors above guessing, of any of half a dozen metrics
WAYS = ("image_to_text_r1", "text_to_image_r1")


class Trial:
    """A model measured as a teacher on some pairs."""

    def __init__(self, model: Clip, pairs: EvaluationSet) -> None:
        self.model = model
        device = resolve_device("auto")
        teacher = Teacher(model.to(device), chunk_size=CHUNK)
        self.evaluator = Evaluator(pairs, teacher, pairs.task, block_size=BLOCK_SIZE, device=device)
        self.measured = self.evaluator.measure_teacher()
        self.blind = self.evaluator.blind()

    @property
    def margin(self) -> float:
        """Standard errors by which its best metric is above guessing."""
        return max(self._margin(name, self.measured.metrics[name], self.measured.errors[name]) for name in self._names)

    @property
    def largest_margin(self) -> float:
        """What a model without a fault would have on these pairs."""
        return max(self._margin(name, 1.0, 0.0) for name in self._names)

    @property
    def _names(self) -> set[str]:
        return self.blind.keys() & self.measured.metrics.keys()

    def _margin(self, name: str, value: float, error: float) -> float:
        guessed = self.blind[name]
        largest = max(error, math.sqrt(guessed * (1 - guessed) / len(self.measured.hits[name])))
        return (value - guessed) / largest if largest else 0.0

    @cached_property
    def entropy(self) -> float:
        """The entropy of its picture-to-text affinities, nats."""
        return affinity_entropy(self.evaluator.teacher_pairs())

    def is_clearly_below(self, other: "Trial") -> bool:
        """Whether the other finds clearly more of the same pairs."""
        mine, theirs = (
            np.concatenate([trial.measured.hits[name].numpy() for name in WAYS])[None] for trial in (self, other)
        )
        pairs = self.evaluator.pairs
        item_Q = np.concatenate([np.arange(pairs.num_images), pairs.caption_image_index_M.numpy()])
        return paired_gain(mine, theirs, item_N=item_Q).low > 0

    @property
    def recall(self) -> str:
        """Its R@1 both ways, and what guessing scores, for a line of text."""
        both = (f"{self.measured.metrics[name]:.1%} (guessing {self.blind[name]:.1%})" for name in WAYS)
        return " and ".join(both)


@dataclass(frozen=True)
class ImportedTeacher:
    """A teacher that beats guessing.

    ``other`` is the trial with the other activation, where the source leaves the activation open; ``normalized`` are
    the trials with other image normalizations, by these, where the architecture's pretrained weights differ in them.
    """

    source: str
    data: str
    trial: Trial
    other: Trial | None
    normalized: dict[str, Trial] = field(default_factory=dict)

    @property
    def uses_quick_gelu(self) -> bool:
        return bool(self.trial.model.config.get("quick_gelu"))

    def save(self, folder: Path) -> None:
        """Write the model folder that ``teacher.model`` names, with its record beside the weights; whole, or nothing.

        Raises:
            FileExistsError: the folder holds something.
            OSError: it cannot be written, or the disk is full.
        """
        with new_folder(folder) as building:
            save_folder(self.trial.model, building)
            (building / RECORD).write_text(json.dumps(self.record(), indent=2) + "\n", encoding="utf-8")

    def record(self) -> dict[str, Any]:
        """Where it came from, its fingerprint, what it is fed, and what was measured."""
        model, measured, pairs = self.trial.model, self.trial.measured, self.trial.evaluator.pairs
        return {
            "source": self.source,
            "weights_sha256": Teacher(model).fingerprint(),
            "num_params": count_parameters(model),
            "width": model.width,
            "scale": float(model.scale),
            "preprocessing": {"image_size": model.image_size, "mean": model.mean, "std": model.std},
            "tokenizer": {"kind": model.tokenizer.spec["kind"], "vocab_size": model.tokenizer.vocab_size},
            "quick_gelu": self.uses_quick_gelu,
            "metrics_with_the_other_activation": self.other.measured.metrics if self.other else None,
            "metrics_with_other_normalizations": {name: one.measured.metrics for name, one in self.normalized.items()},
            "data": self.data,
            "data_fingerprint": pairs.fingerprint,
            "num_pairs": measured.num_pairs,
            "metrics": measured.metrics | {"affinity_entropy": self.trial.entropy},
            "errors": measured.errors,
            "guessing": self.trial.blind,
        }


def import_teacher(
    source: str,
    data: str | None = None,
    *,
    num_pairs: int = 0,
    runs_dir: Path = Path("runs"),
) -> ImportedTeacher:
    """Load a model, and see that it is a teacher for these pairs.

    A file of weights does not say which activation it was trained with, and the wrong one costs much without an error:
    both are measured, and the one that finds clearly more pairs is taken.

    Args:
        source: a model SPEC, or a file of weights, whose architecture is told by its shapes.
        data: SPEC of the pairs; None takes a run's own held-out pairs, a sample teacher's, and else the emoji.
        num_pairs: how many at most; 0 for all.

    Raises:
        ValueError: it cannot be loaded, or is not clearly above guessing, and then what is likely wrong.
    """
    spec = spec_of_file(Path(source)) if is_weights_file(source) else source
    with phase(f"loading {source}"), warnings.catch_warnings():
        warnings.simplefilter("ignore", NormalizationWarning)  # it is measured here
        model = load_model(spec, runs_dir=runs_dir)
    data = data or _own_data(spec, runs_dir)
    with phase(f"opening {data}"):
        pairs = open_evaluation_set(data, "validation", num_pairs)
    trial, other = Trial(model, pairs), None
    if trial.largest_margin < CLEAR:
        raise ValueError(f"{pairs.num_images} pairs of {data} cannot tell a teacher from guessing: give more")
    if _leaves_activation_open(spec):
        other = Trial(_variant(model, quick_gelu=not model.config.get("quick_gelu")), pairs)
        if trial.is_clearly_below(other):
            trial, other = other, trial
    trial, normalized = _best_normalized(trial, _open_normalizations(spec))
    if trial.margin < CLEAR:
        raise ValueError(f"{source} does not beat guessing on {data}: {_diagnosis(trial, other)}")
    return ImportedTeacher(source, data, trial, other, normalized)


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
    """Whether the weights are a mere file; tags, runs and folders say how they were trained."""
    return spec.startswith("open_clip:") and Path(spec.partition("@")[2]).is_file()


def _name_in(spec: str) -> str:
    return spec.removeprefix("open_clip:").partition("@")[0].replace("/", "-")


def _open_normalizations(spec: str) -> tuple[Normalization, ...]:
    """Those that pretrained weights of the SPEC's architecture have, where it is a mere file and they differ."""
    known = normalizations_of(_name_in(spec)) if _leaves_activation_open(spec) else ()
    return known if len(known) > 1 else ()


def _best_normalized(trial: Trial, choices: Sequence[Normalization]) -> tuple[Trial, dict[str, Trial]]:
    """The trial whose normalization finds clearly more pairs, and the others by theirs; ``trial`` if none does."""
    trials = {Normalization(trial.model.mean, trial.model.std): trial}
    for choice in choices:
        if choice not in trials:
            trials[choice] = Trial(_variant(trial.model, **choice._asdict()), trial.evaluator.pairs)
    best = trial
    for one in trials.values():
        best = one if best.is_clearly_below(one) else best
    return best, {str(choice): one for choice, one in trials.items() if one is not best}


def _variant(model: Clip, **changes: Any) -> Clip:
    """The same weights, fed or activated otherwise."""
    own = {"config": model.config, "mean": model.mean, "std": model.std}
    if "quick_gelu" in changes:
        changes["config"] = model.config | {"quick_gelu": changes.pop("quick_gelu")}
    arguments = own | changes
    made = Clip(arguments.pop("config"), model.tokenizer, **arguments)
    made.towers.load_state_dict(model.towers.state_dict())
    return made


def _diagnosis(trial: Trial, other: Trial | None) -> str:
    """What is likely wrong with a model that is no better than guessing, from what was tried."""
    found = f"R@1 {trial.recall} of {trial.measured.num_pairs:,} pairs"
    activation = "with quick_gelu or without; " if other else ""
    for name, choice in NORMALIZATIONS.items():
        if choice == (trial.model.mean, trial.model.std):
            continue
        normalized = Trial(_variant(trial.model, **choice._asdict()), trial.evaluator.pairs)
        if normalized.margin >= CLEAR:
            return (
                f"{found}; its images were normalized otherwise: with {name} it has {normalized.recall}; write "
                "these into preprocess_cfg of a model folder"
            )
    tokenizer = trial.model.tokenizer
    return (
        f"{found}, {activation}other normalizations do not help: likely are another tokenizer than its own "
        f"({tokenizer.spec['kind']}, {tokenizer.vocab_size:,} ids), weights that were never trained, or pairs unlike "
        "those it knows: name some with --data SPEC"
    )
