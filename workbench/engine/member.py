"""One student in training: its state, its objective, and its training step in two halves, backward and update."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from workbench.config.run import RunConfig
from workbench.config.toml import RATE, check_changes
from workbench.embeddings import Batch, MaskKey, onto
from workbench.engine.cadence import Cadence, Phase
from workbench.engine.curation import curate, picked
from workbench.engine.distributed import ALONE, Ranks
from workbench.engine.loss_scale import LossScale
from workbench.engine.micro_batches import MicroBatches, measured_size
from workbench.engine.state import TrainState
from workbench.engine.step import DivergenceMonitor, SpikeMonitor, backward
from workbench.engine.teacher_outputs import TeacherOutputs
from workbench.events import Event, StepDone, Warned
from workbench.inheritance.inheritance_map import InheritanceMap
from workbench.losses.objective import Objective, Values
from workbench.models.clip import Clip
from workbench.models.image_tower import kept_patches
from workbench.runs.directory import RunDirectory
from workbench.runs.snapshots import Snapshot, write_snapshot

if TYPE_CHECKING:  # torchvision's detectors take seconds to import
    from workbench.dense.training import DetectorTraining


class Member:
    """A student in training.

    Args:
        student: before the first step.
        make_state: makes the train state of a phase from the student at its start.
        directory: of its checkpoints and commands; None keeps nothing.
        inheritance_map: which parts of the source model the student keeps; None if it inherits nothing.
        ranks: the processes that train this student together.
    """

    def __init__(
        self,
        run: str,
        config: RunConfig,
        student: Clip,
        objective: Objective,
        make_state: Callable[[Clip, Phase, InheritanceMap | None], TrainState],
        directory: RunDirectory | None,
        inheritance_map: InheritanceMap | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.run = run
        self.ranks = ranks
        self.config = config
        self.optimizer_config, self.objective = config.optimizer, objective  # commands may change either
        self.directory = directory
        self._identity = directory.identity if directory else None
        self._make_state = make_state
        self.cadence = Cadence(
            config,
            len(objective.terms),
            keeps_files=directory is not None,
            inherits=inheritance_map is not None,
        )
        self.enter(student, inheritance_map, 0)
        self.data_fingerprint = ""  # of the training pairs
        self.held_out: dict[str, str] = {}  # fingerprints of the evaluation pairs, by split
        self.teacher: dict[str, Any] = {}  # its weights' SHA-256 and its scale
        self.notes: list[str] = []  # warnings about its resume
        self.step = 0  # steps taken
        self.detector: DetectorTraining | None = None  # while it trains, behind the last step
        self.detector_tensors: dict[str, Tensor] = {}  # of a checkpoint that it continues from
        self.saved_step = -1  # of the last attempt to save
        self.unsaved = ""  # why that attempt failed; empty if it did not
        self.elapsed_s = 0.0
        self.spikes = SpikeMonitor()
        self.examined: set[str] = set()  # losses already checked for a contribution to the gradient
        device = self.state.student.scale.device
        self.divergence = DivergenceMonitor(tuple(objective.terms), config.train.max_skipped_steps, device)
        self.micro_batches = MicroBatches(config.train.micro_batch_size, device)
        is_half = config.train.precision == "fp16"
        self.loss_scale = LossScale(device) if is_half else None  # over all phases, unlike the optimizer
        # Results of the last step. They stay on the device until a step is logged, so that no step waits for a GPU.
        self._terms = torch.zeros(len(objective.terms), device=device)
        self._norm = torch.zeros((), device=device)
        self._rate = 0.0
        self._weights: dict[str, float] = {}
        self._curated: tuple[int, tuple[str, ...], list[int]] = (-1, (), [])  # step, keys and rows of the newest batch

    def enter(self, student: Clip, inheritance_map: InheritanceMap | None, step: int) -> None:
        """Start, or resume, the phase of step ``step`` (from 0), with a fresh optimizer."""
        self.inheritance_map = inheritance_map
        self.state = self._make_state(student, self.phase(step), inheritance_map)

    def change(self, changes: Mapping[str, Any]) -> None:
        """Change settings from the next step on; a resumed run changes them again.

        A learning rate is the peak of the schedule. A weight is translated to this run's batch and width, as in a
        recipe, and replaces any schedule.

        Raises:
            ValueError: a setting that is fixed, or an invalid value; nothing has changed then.
        """
        check_changes(self.config, changes)
        optimizer, objective = self.optimizer_config, self.objective
        for setting, value in changes.items():
            if setting == RATE:
                optimizer = optimizer.model_copy(update={"learning_rate": float(value)})
            else:
                objective = objective.reweighed(setting.split(".")[1], value)
        if objective is not self.objective:
            self.examined.clear()
        self.optimizer_config, self.objective = optimizer, objective

    def save_snapshot(self, step: int, what: str, take: Callable[[], Snapshot]) -> Iterator[Event]:
        """Take a snapshot and save it, if the run has a directory.

        A failure is a warning, since training can continue.
        """
        if self.directory is None and self.ranks.size == 1:
            return
        try:
            snapshot = take()  # on every rank, since it may need all of them
            if self.directory is not None:
                write_snapshot(self.directory, snapshot)
        except (OSError, ValueError, torch.OutOfMemoryError) as error:
            yield Warned(run=self.run, step=step, message=f"{what} not saved: {error}")

    @property
    def folder_is_gone(self) -> bool:
        """Whether the run's folder was deleted, moved or replaced during training: nothing can be saved there."""
        try:
            return self.directory is not None and self.directory.identity != self._identity
        except OSError:  # unreachable for now, such as a network mount, is not gone
            return False

    @property
    def loss_files(self) -> dict[str, str]:
        """SHA-256 of the files of users' losses, by loss."""
        return {name: loss.file_sha256 for name, loss in self.objective.losses.items() if loss.file}

    @property
    def kept_fraction(self) -> float:
        """Fraction of the source's weights that the student keeps; 1 for a student that inherits nothing."""
        return 1 - self.inheritance_map.sparsity if self.inheritance_map else 1.0

    def phase(self, step: int) -> Phase:
        """The phase of step ``step``, counted from 0."""
        return self.cadence.phase(step)

    def train_step(self, batch: Batch, teacher_outputs: TeacherOutputs | None, step: int) -> None:
        """Take optimizer step ``step`` (from 0): :meth:`backward`, then :meth:`update`."""
        self.update(self.backward(batch, teacher_outputs, step), batch, step)

    def backward(self, batch: Batch, teacher_outputs: TeacherOutputs | None, step: int) -> Values:
        """Student forward, losses and backward of one step; the gradients are in the parameters' ``.grad``."""
        batch, teacher_outputs = self.selected(batch, teacher_outputs, step)
        batch = self.masked(batch, step)
        if not self.micro_batches.is_chosen:
            self._choose_micro_batches(batch, step)
        while (values := self._values(batch, teacher_outputs, step)) is None:
            pass  # memory ran out: again, with smaller micro-batches
        return values

    def _values(self, batch: Batch, teacher_outputs: TeacherOutputs | None, step: int) -> Values | None:
        """The values of the losses, with the gradients in place; None if smaller micro-batches are to be tried."""
        self.prepare_step(step)  # its noise is that of the step, however often it starts
        try:
            return backward(
                self.state,
                batch,
                teacher_outputs,
                self.objective,
                step,
                micro_batch_size=self.micro_batches.size,
                precision=self.config.train.precision,
                scaled=self.scaled,
                ranks=self.ranks,
            )
        except torch.OutOfMemoryError:
            # Other ranks wait in a collective that this one has passed, or has not reached. And a loss in a user's file
            # may hold state.
            is_alone = self.ranks.size == 1 and not self.loss_files
            if not (is_alone and self.micro_batches.halve(len(batch), step)):
                raise
        return None  # after the except block, which keeps what the failed step held

    def _choose_micro_batches(self, batch: Batch, step: int) -> None:
        """Measure how many pairs fit; the rank with the least room decides for all."""
        inputs, precision = self.objective.loss_inputs(step), self.config.train.precision
        if self.state.gates:
            self.state.gates.sample_noise(self.config.seed, step)
        found = self.ranks.of_all(measured_size(self.state, batch, inputs, precision))
        self.micro_batches.choose(*min(found, key=lambda one: one[0] or len(batch) + 1))

    def scaled(self, total: Tensor) -> Tensor:
        """The objective times the loss scale, to backpropagate; as it is without one."""
        return self.loss_scale.scaled(total) if self.loss_scale else total

    def selected(
        self, batch: Batch, teacher_outputs: TeacherOutputs | None, step: int
    ) -> tuple[Batch, TeacherOutputs | None]:
        """The pairs that this student trains on at ``step`` (from 0); the whole batch unless it is curated.

        The rows of the newest step are kept, since its reports ask for them after the weights have changed.
        """
        if self.config.curation.method == "off" or teacher_outputs is None:
            return batch, teacher_outputs
        if self._curated[:2] != (step, batch.keys):
            self._curated = step, batch.keys, curate(self.state, self.config, batch, teacher_outputs, step)
        rows = self._curated[2]
        return picked(batch, rows), teacher_outputs.of_rows(rows)

    def prepare_step(self, step: int) -> None:
        """Train mode, no gradients, and the gates sampled for this step."""
        self.state.student.train()
        self.state.optimizer.zero_grad(set_to_none=True)
        if self.state.gates:
            self.state.gates.sample_noise(self.config.seed, step)

    def update(self, values: Values, batch: Batch, step: int) -> None:
        """Clip the gradients and take the optimizer step; a loss or gradient that is not finite skips it."""
        norm = self.gradient_norm(step)
        self.apply(values, norm, not_finite(norm, values.total.detach()), batch, step)

    def gradient_norm(self, step: int) -> Tensor:
        """The norm, 0-d, of the gradients that :meth:`backward` left, whole from now on: summed, and not scaled."""
        state = self.state
        self.ranks.sum_gradients(parameter for parameter in state.parameters() if parameter.requires_grad)
        if self.loss_scale:  # before anything else reads or adds a gradient
            self.loss_scale.unscale_(state.parameters())
        if state.gates:  # after the sum: every rank has the whole penalty
            penalty = state.gates.penalty(step - self.phase(step).start)
            penalty.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return get_total_norm([p.grad for p in state.weights if p.grad is not None])

    def apply(self, values: Values, norm: Tensor, is_bad: Tensor, batch: Batch, step: int) -> None:
        """The second half of :meth:`update`; ``is_bad``, 0-d bool, skips the step."""
        config, state = self.config, self.state
        self._norm = norm
        counts = is_bad  # as a step that is not finite
        if self.loss_scale:
            is_overflow = self.loss_scale.is_overflow(is_bad, values.total.detach())
            self.loss_scale.update_(is_bad, is_overflow)
            counts = is_bad & ~is_overflow
        # Before clipping: it multiplies all gradients by one factor, and a NaN norm would spread to all of them.
        self.divergence.locate(state, counts, self._trained_keys(batch, step))
        if config.optimizer.clip_norm > 0:
            clip_grads_with_norm_(state.weights, config.optimizer.clip_norm, self._norm)
        self._rate = self.phase(step).learning_rate(step, self.optimizer_config)
        state.set_learning_rate(self._rate)
        self._weights = self.objective.weights_at(step)
        off = torch.zeros_like(self._norm)
        self._terms = torch.stack([values.terms.get(name, off) for name in self.objective.terms])
        # The fused kernel reads ``found_inf`` on the device and then skips the update; an ``if`` would wait for a GPU.
        state.optimizer.found_inf = is_bad.float()  # type: ignore[attr-defined]
        state.optimizer.step()
        state.clamp_()
        self.step = step + 1
        self.divergence.record(step + 1, counts, self._terms)

    def _trained_keys(self, batch: Batch, step: int) -> tuple[str, ...]:
        """The keys of the pairs of a batch that were trained on."""
        is_curated = self._curated[:2] == (step, batch.keys)
        return tuple(batch.keys[row] for row in self._curated[2]) if is_curated else batch.keys

    @property
    def grad_norm(self) -> float:
        """Gradient norm of the last step before clipping; waits for the device."""
        return float(self._norm)

    def masked(self, batch: Batch, step: int) -> Batch:
        """The batch with the patches that this student keeps at ``step``, where a loss masks some."""
        masking = self.objective.loss_inputs(step).masking
        if masking is None:
            return batch
        # Seeded by pair, run seed and step, so that a resumed run masks the same patches.
        ((key, make),) = self.masks.items()
        kept_BK = batch.masks.get(key)
        if kept_BK is None and (made_BK := make(batch.keys, step)) is not None:  # the batch is of another cohort
            kept_BK = onto(batch.student_image_BCHW.device, made_BK)
        return replace(batch, kept_BK=kept_BK)

    @property
    def masks(self) -> dict[MaskKey, Callable[[Sequence[str], int], Tensor | None]]:
        """The mask of this student's images, if a loss has one, as batches are made with it."""
        if self.objective.masking is None:
            return {}
        key = self.state.student.num_patches, self.objective.masking.ratio, self.config.seed
        return {key: partial(_kept_patches, key)}

    def step_done(self, step: int, batch_size: int, step_time_s: float, peak_mb: float) -> StepDone:
        """The event of the last step; waits for the device."""
        values = dict(zip(self.objective.terms, self._terms.tolist(), strict=True))
        terms = {name: value for name, value in values.items() if name in self._weights}
        weighted = {name: self._weights[name] * value for name, value in terms.items()}
        return StepDone(
            run=self.run,
            step=step,
            loss=sum(weighted.values()),
            terms=terms,
            weighted=weighted,
            scales={name: float(scale) for name, scale in self.state.scales().items()},
            learning_rate=self._rate,
            grad_norm=self.grad_norm,
            step_time_s=step_time_s,
            pairs_per_s=batch_size / step_time_s,
            elapsed_s=self.elapsed_s,
            peak_mb=peak_mb,
            masks=self._masks(step),
            bias=None if (bias := self.state.student.bias) is None else bias.item(),
        )

    def _masks(self, step: int) -> dict[str, float]:
        """Sparsity, its target and the multipliers of the constraint after ``step`` steps; empty without gates."""
        gates = self.state.gates
        if gates is None:
            return {}
        linear, quadratic = gates.multipliers.detach().tolist()
        return {
            "sparsity": float(gates.expected_sparsity().detach()),
            "target": gates.target(step - self.phase(step - 1).start),
            "linear_multiplier": linear,
            "quadratic_multiplier": quadratic,
        }


def not_finite(norm: Tensor, total: Tensor) -> Tensor:
    """Whether a gradient's norm or a loss is not finite, elementwise: of one member, 0-d, or of several, [M]."""
    return ~(norm.isfinite() & total.isfinite())


def _kept_patches(key: MaskKey, keys: Sequence[str], step: int) -> Tensor | None:
    """:func:`kept_patches` of a mask."""
    num_patches, ratio, seed = key
    return kept_patches(keys, num_patches, ratio, seed, step)
