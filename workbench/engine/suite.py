"""A suite's evaluations of one model, one after the other; each result is kept as soon as it is measured."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from workbench.config.suite import Evaluation, Suite
from workbench.data.spec import check_spec
from workbench.engine.build import make_evaluator
from workbench.engine.evaluate import Evaluator
from workbench.engine.linear_probe import probe_evaluators
from workbench.engine.remeasure import Source, open_source
from workbench.models.weights import weights_sha256
from workbench.progress import phase
from workbench.runs.checkpoints import read_manifest
from workbench.runs.suites import SuiteResult, find_result, identity_of, keep_result, results_folder
from workbench.runs.summary import write_summary

State = Literal["measured", "reused", "skipped", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What became of one evaluation.

    Attributes:
        state: "reused" if its result was measured before, for the same weights and data; "skipped" if its data are not
            there; "failed" if they cannot be used.
        result: None if it was skipped or failed.
        reason: why there is no result, in one line.
    """

    evaluation: Evaluation
    state: State
    result: SuiteResult | None = None
    reason: str = ""


def run_suite(source: str, suite: Suite, root: Path, runs_dir: Path) -> Iterator[Outcome]:
    """Measure the model at ``source``; an outcome per evaluation, in order.

    Every result is kept before it is yielded: those of a run in its folder and its ``summary.json``. Data whose SPEC
    names no split are opened as test data.

    Args:
        source: as for :func:`workbench.engine.remeasure.remeasure`.
        root: the folder that ``{root}`` stands for.

    Raises:
        ValueError: there is no model at ``source``.
    """
    model = open_source(source, runs_dir)
    measuring = _Measuring(model, suite.name)
    for number, listed in enumerate(suite.evaluations, start=1):
        evaluation = listed.at(str(root))
        if reason := _missing(evaluation):
            yield Outcome(evaluation, "skipped", reason=reason)
            continue
        with phase(f"{suite.name}: {evaluation.name}, {number} of {len(suite.evaluations)}"):
            try:
                outcome = measuring.outcome(evaluation)
            except ValueError as error:
                outcome = Outcome(evaluation, "failed", reason=str(error).partition("\n")[0])
        yield outcome


def _missing(evaluation: Evaluation) -> str:
    """Why its data cannot be found; empty if they exist."""
    try:
        check_spec(evaluation.data, "test")
        if evaluation.train:
            check_spec(evaluation.train, "train")
    except ValueError as error:
        return str(error).partition("; a SPEC is ")[0].partition(": a SPEC is ")[0]
    return ""


class _Measuring:
    """Measures evaluations of one model."""

    def __init__(self, model: Source, suite: str) -> None:
        self._model = model
        self._suite = suite
        self._weights = weights_sha256(model.student.towers)
        self._folder = results_folder(model.run, self._weights)
        checkpoint = model.checkpoint if model.run else None
        self._step = int(read_manifest(checkpoint)["step"]) if checkpoint else None

    def outcome(self, evaluation: Evaluation) -> Outcome:
        """The earlier result of an evaluation with the same identity, or a new one.

        Raises:
            ValueError: its data cannot be used.
        """
        tested = self._open(evaluation.data, evaluation)
        trained = self._open(evaluation.train, evaluation) if evaluation.train else None
        _check_data(evaluation, tested)
        identity = identity_of(self._parts(evaluation, tested, trained))
        if known := find_result(self._folder, self._suite, evaluation.name, identity):
            # The lines below belong to the suite's file and may have changed since.
            now = {"step": self._step, "shift_of": evaluation.shift_of, "expected": evaluation.expected}
            known = known.model_copy(update=now | {"data": evaluation.data})
            self._keep(known)
            return Outcome(evaluation, "reused", known)
        start_s = time.perf_counter()
        metrics, errors, chance = self._scores(evaluation, tested, trained)
        result = SuiteResult(
            suite=self._suite,
            name=evaluation.name,
            task=evaluation.task,
            data=evaluation.data,
            identity=identity,
            weights_sha256=self._weights,
            step=self._step,
            num_images=tested.pairs.num_images,
            num_classes=_num_classes(evaluation, tested),
            metrics=metrics,
            errors=errors,
            chance=chance,
            shift_of=evaluation.shift_of,
            expected=evaluation.expected,
            notes=_notes(evaluation, tested),
            elapsed_s=time.perf_counter() - start_s,
        )
        self._keep(result)
        return Outcome(evaluation, "measured", result)

    def _open(self, spec: str, evaluation: Evaluation) -> Evaluator:
        config, device = self._model.config, self._model.device
        role: Literal["train", "test"] = "train" if spec == evaluation.train else "test"
        number = evaluation.pairs if role == "test" else 0
        prepare = config.data.prepare
        return make_evaluator(config, spec, role, number, None, device, prepare=prepare, block_size=evaluation.gallery)

    def _keep(self, result: SuiteResult) -> None:
        keep_result(self._folder, result)
        # A run without a summary trains, or was killed; its summary will be computed from the folder.
        if self._model.run and self._model.run.summary_file.exists():
            write_summary(self._model.run)

    def _parts(self, evaluation: Evaluation, tested: Evaluator, trained: Evaluator | None) -> dict[str, Any]:
        """All that a result depends on, but for the machine's rounding."""
        student, task = self._model.student, tested.pairs.task
        probe = [trained.pairs.fingerprint, evaluation.shots, evaluation.seeds] if trained else []
        return {
            "weights": self._weights,
            "model": [student.config, student.mean, student.std, student.resizing, student.input_spec.tokenizer_id],
            "precision": self._model.config.train.precision,
            "data": [tested.pairs.fingerprint, tested.pairs.num_images, evaluation.pairs],
            "task": [evaluation.task, evaluation.gallery, *probe],
            "classes": [task.classes, task.templates, task.verbatim] if task else [],
        }

    def _scores(
        self, evaluation: Evaluation, tested: Evaluator, trained: Evaluator | None
    ) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
        """Metrics, standard errors and chance levels."""
        student = self._model.student
        if evaluation.task == "zero-shot":
            scored = tested.zero_shot(student, tested.image_features(student))
            assert scored is not None
            chance = tested.zero_shot_chance()
            return scored.metrics, scored.errors, {name: chance[name] for name in scored.metrics}
        if trained is None:
            measured = tested.measure(student)
            recalls = [name for name in measured.metrics if "_to_" in name]
            scores = (measured.metrics, measured.errors, measured.chance)
            metrics, errors, chance = ({name: values[name] for name in recalls} for values in scores)
            return metrics, errors, chance
        called = evaluation.train, evaluation.data
        shots, seeds = evaluation.shots, evaluation.seeds
        probed = probe_evaluators(self._model, trained, tested, called, shots=shots, num_seeds=seeds)
        names = [f"linear_probe_{one.shots or 'all'}" for one in probed.accuracies]
        return (
            {name: one.estimate.mean for name, one in zip(names, probed.accuracies, strict=True)},
            {name: one.error for name, one in zip(names, probed.accuracies, strict=True)},
            dict.fromkeys(names, 1 / probed.num_classes),
        )


def _check_data(evaluation: Evaluation, tested: Evaluator) -> None:
    """Raise ValueError for data without what the task needs, or with fewer or more classes than they should have."""
    pairs, task = tested.pairs, tested.pairs.task
    if evaluation.task == "retrieval" and pairs.is_class_folder:
        raise ValueError(f"{evaluation.data} has classes and no captions, which retrieval needs")
    if evaluation.task == "retrieval":
        return
    if task is None or (pairs.answers_N if evaluation.task == "zero-shot" else pairs.classes_N) is None:
        raise ValueError(f"{evaluation.data} has images without a class, and {evaluation.task} needs one for each")
    if evaluation.task == "zero-shot" and task.num_unnamed:
        raise ValueError(
            f"{task.num_unnamed:,} of {len(task.classes):,} classes of {evaluation.data} have a number or an id for a "
            "name, which means nothing to a model: name them in classes.json"
        )
    if evaluation.classes and len(task.classes) != evaluation.classes:
        raise ValueError(
            f"{evaluation.data} has {len(task.classes):,} classes, and the complete data have {evaluation.classes:,}: "
            "unpack all of them"
        )


def _num_classes(evaluation: Evaluation, tested: Evaluator) -> int:
    task = tested.pairs.task
    return len(task.classes) if task and evaluation.task != "retrieval" else 0


def _notes(evaluation: Evaluation, tested: Evaluator) -> list[str]:
    notes = [tested.pairs.note] if tested.pairs.note else []
    found = tested.pairs.num_images
    if evaluation.images and found != evaluation.images and not evaluation.pairs:
        notes.append(f"{found:,} images, and the complete data have {evaluation.images:,}")
    return notes
