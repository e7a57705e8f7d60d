"""Taking in a teacher from elsewhere: does it work here, and as what; and a folder that holds it."""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from workbench.config.toml import load_run_config
from workbench.data.evaluation_set import EvaluationSet, open_evaluation_set
from workbench.data.spec import evaluated_splits
from workbench.engine.device import resolve_device
from workbench.engine.evaluation import Evaluator
from workbench.evaluation.agreement import BLOCK_SIZE, affinity_entropy
from workbench.models.clip import Clip
from workbench.models.counting import count_parameters
from workbench.models.folder import save_folder
from workbench.models.names import is_weights_file
from workbench.models.spec import load_model, spec_of_file
from workbench.models.teacher import Teacher
from workbench.runs.atomic import write_atomically
from workbench.runs.directory import find_run
from workbench.statistics.intervals import paired_gain

RECORD = "teacher.json"
DEFAULT_DATA = "samples:emoji"
CHUNK = 64  # pairs in one forward: a teacher pads the last
CLEAR = 5.0  # standard errors above guessing, of any of half a dozen metrics
WAYS = ("image_to_text_r1", "text_to_image_r1")
NORMALISATIONS = {
    "ImageNet's mean and std": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "mean and std 0.5": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}

Watch = Callable[[Iterable[Tensor], int], Iterable[Tensor]]


class _Watched(EvaluationSet):
    """The same pairs; whoever watches sees the chunks of pictures pass, and is told how many there will be."""

    def __init__(self, pairs: EvaluationSet, watch: Watch) -> None:
        vars(self).update(vars(pairs))
        self._watch = watch

    def image_chunks(self, image_size: int, chunk: int = 256) -> Iterator[Tensor]:
        yield from self._watch(super().image_chunks(image_size, chunk), math.ceil(self.num_images / chunk))


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

    ``other`` is the trial with the other activation, where the source leaves the activation open.
    """

    source: str
    data: str
    trial: Trial
    other: Trial | None

    @property
    def uses_quick_gelu(self) -> bool:
        return bool(self.trial.model.config.get("quick_gelu"))

    def save(self, folder: Path) -> None:
        """Write the model folder that ``teacher.model`` names, with its record beside the weights."""
        save_folder(self.trial.model, folder)
        write_atomically(folder / RECORD, json.dumps(self.record(), indent=2) + "\n")

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
    watch: Watch = lambda chunks, _: chunks,
) -> ImportedTeacher:
    """Load a model, and see that it is a teacher for these pairs.

    A file of weights does not say which activation it was trained with, and the wrong one costs much without an error:
    both are measured, and the one that finds clearly more pairs is taken.

    Args:
        source: a model SPEC, or a file of weights, whose architecture is told by its shapes.
        data: SPEC of the pairs; None takes a run's own held-out pairs, a sample teacher's, and else the emoji.
        num_pairs: how many at most; 0 for all.
        watch: sees the pictures pass.

    Raises:
        ValueError: it cannot be loaded, or is not clearly above guessing, and then what is likely wrong.
    """
    spec = spec_of_file(Path(source)) if is_weights_file(source) else source
    model = load_model(spec, runs_dir=runs_dir)
    data = data or _own_data(spec, runs_dir)
    pairs = _Watched(open_evaluation_set(data, "validation", num_pairs), watch)
    trial, other = Trial(model, pairs), None
    if trial.largest_margin < CLEAR:
        raise ValueError(f"{pairs.num_images} pairs of {data} cannot tell a teacher from guessing: give more")
    if _leaves_activation_open(spec):
        other = Trial(_variant(model, quick_gelu=not model.config.get("quick_gelu")), pairs)
        if trial.is_clearly_below(other):
            trial, other = other, trial
    if trial.margin < CLEAR:
        raise ValueError(f"{source} does not beat guessing on {data}: {_diagnosis(trial, other)}")
    return ImportedTeacher(source, data, trial, other)


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
    for name, (mean, std) in NORMALISATIONS.items():
        normalised = Trial(_variant(trial.model, mean=mean, std=std), trial.evaluator.pairs)
        if normalised.margin >= CLEAR:
            return (
                f"{found}; its pictures were normalised otherwise: with {name} it has {normalised.recall}; write "
                "these into preprocess_cfg of a model folder"
            )
    tokenizer = trial.model.tokenizer
    return (
        f"{found}, {activation}other normalisations do not help: likely are another tokenizer than its own "
        f"({tokenizer.spec['kind']}, {tokenizer.vocab_size:,} ids), weights that were never trained, or pairs unlike "
        "those it knows: name some with --data SPEC"
    )
