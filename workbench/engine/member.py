"""One student of a cohort: its state, its objective, and one step of its training."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from workbench.config.run import RunConfig
from workbench.embeddings import Batch
from workbench.engine.cadence import Phase, phase_at, phases
from workbench.engine.gradients import diagnose_every, diagnoses_at
from workbench.engine.state import TrainState
from workbench.engine.step import DivergenceMonitor, SpikeMonitor, backward
from workbench.engine.teacher_outputs import TeacherOutputs
from workbench.events import StepDone
from workbench.inheritance.inheritance_map import InheritanceMap
from workbench.losses.objective import Objective, Values
from workbench.models.clip import Clip
from workbench.models.masking import kept_patches
from workbench.runs.directory import RunDirectory

NUM_MASK_SNAPSHOTS = 40  # in every phase that learns masks


class Member:
    """A student in training.

    Args:
        student: as it is before the first step.
        make_state: what is trained in a phase that starts with a student.
        directory: where its checkpoints go and its commands come from; None keeps nothing.
        legacy: what it has of the model that it inherits from, if it does.
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
    ) -> None:
        self.run = run
        self.config = config
        self.optimizer_config, self.objective = config.optimizer, objective  # either may be changed under way
        self.directory = directory
        self._identity = directory.identity if directory else None
        self.phases = phases(config)
        self._make_state = make_state
        self.enter(student, inheritance_map, 0)
        self.data_fingerprint = ""  # of the training pairs
        self.held_out: dict[str, str] = {}  # fingerprints of the pairs that it is measured on, by split
        self.teacher: dict[str, Any] = {}  # its weights' SHA-256 and its scale
        self.step = 0  # steps taken
        self.saved_step = -1  # at which saving was last tried
        self.unsaved = ""  # why that failed, if it did
        self.elapsed_s = 0.0
        self.spikes = SpikeMonitor()
        self.examined: set[str] = set()  # losses that were looked at, whether they count
        self._diagnose_every = diagnose_every(
            config.log.diagnose_every_steps, len(objective.terms), config.train.num_steps
        )
        device = self.state.student.scale.device
        self.watch = DivergenceMonitor(tuple(objective.terms), config.train.max_skipped_steps, device)
        self._terms = torch.zeros(len(objective.terms), device=device)
        self._norm = torch.zeros((), device=device)
        self._rate = 0.0
        self._weights: dict[str, float] = {}

    def enter(self, student: Clip, inheritance_map: InheritanceMap | None, step: int) -> None:
        """Begin, or go on with, the phase that takes step ``step`` (from 0), its optimiser fresh."""
        self.inheritance_map = inheritance_map
        self.state = self._make_state(student, self.phase(step), inheritance_map)

    @property
    def is_homeless(self) -> bool:
        """Whether the run's folder was deleted, moved or replaced while it trains: nothing can be saved there."""
        try:
            return self.directory is not None and self.directory.identity != self._identity
        except OSError:  # out of reach for now, which is not gone
            return False

    @property
    def kept_fraction(self) -> float:
        """How much it has of the weights that it inherits from; 1 for a student that inherits nothing."""
        return 1 - self.inheritance_map.sparsity if self.inheritance_map else 1.0

    def phase(self, step: int) -> Phase:
        """The phase that takes step ``step``, counted from 0."""
        return phase_at(self.phases, step)

    def learn(self, batch: Batch, teacher_outputs: TeacherOutputs | None, step: int) -> None:
        """Take optimiser step ``step`` (from 0). A non-finite gradient leaves the weights as they are."""
        train = self.config.train
        self.begin(step)
        values = backward(
            self.state,
            self.masked(batch, step),
            teacher_outputs,
            self.objective,
            step,
            micro_batch_size=train.micro_batch_size,
            precision=train.precision,
        )
        self.update(values, batch, step)

    def begin(self, step: int) -> None:
        """Get ready for the forward of a step."""
        self.state.student.train()
        self.state.optimizer.zero_grad(set_to_none=True)
        if self.state.gates:
            self.state.gates.sample_noise(self.config.seed, step)

    def update(self, values: Values, batch: Batch, step: int) -> None:
        """Take the optimiser's step, the gradient of the objective being there."""
        config, state, phase = self.config, self.state, self.phase(step)
        if state.gates:
            state.gates.penalty(step - phase.start).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._norm = get_total_norm([p.grad for p in state.weights if p.grad is not None])
        self.watch.look(state, self._norm, batch.keys)
        if config.optimizer.clip_norm > 0:
            clip_grads_with_norm_(state.weights, config.optimizer.clip_norm, self._norm)
        self._rate = phase.learning_rate(step, self.optimizer_config)
        state.set_learning_rate(self._rate)
        self._weights = self.objective.weights_at(step)
        off = torch.zeros_like(self._norm)
        self._terms = torch.stack([values.terms.get(name, off) for name in self.objective.terms])
        is_bad = ~(self._norm.isfinite() & values.total.detach().isfinite())
        state.optimizer.found_inf = is_bad.float()  # type: ignore[attr-defined]  # AdamW(fused=True) then skips the update
        state.optimizer.step()
        state.clamp_()
        self.step = step + 1
        self.watch.note(step + 1, is_bad, self._terms)

    @property
    def grad_norm(self) -> float:
        """The norm of the last step's gradient, before it was clipped; waits for the device."""
        return float(self._norm)

    def masked(self, batch: Batch, step: int) -> Batch:
        """The batch with the patches that this student sees, where a loss removes some."""
        masking = self.objective.loss_inputs(step).masking
        if masking is None:
            return batch
        kept_BK = kept_patches(batch.keys, self.state.student.num_patches, masking.ratio, self.config.seed, step)
        if kept_BK is None:
            return batch
        return replace(batch, kept_BK=kept_BK.to(batch.student_image_BCHW.device, non_blocking=True))

    def step_done(self, step: int, batch_size: int, step_time_s: float, peak_mb: float) -> StepDone:
        """What the last step measured; waits for the device."""
        terms = {name: value for name, value in self._named(self._terms).items() if name in self._weights}
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
        )

    def _masks(self, step: int) -> dict[str, float]:
        """Where the constraint on the gates stands after ``step`` steps; empty while no masks are learnt."""
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

    def reports_at(self, step: int) -> bool:
        """Whether the step is logged, evaluated or saved: everything that looks at the weights waits for a log."""
        logged = step == 1 or step % self.config.log.every_steps == 0
        return logged or self.looks_at_weights(step) or self.diagnoses_at(step) or self.keeps_masks_at(step)

    def looks_at_weights(self, step: int) -> bool:
        """Whether the weights after ``step`` steps are evaluated, saved or carried over into another phase."""
        return self.evaluates_at(step) or self.saves_at(step) or self.enters_stage_at(step)

    def enters_stage_at(self, step: int) -> bool:
        """Whether another phase begins after ``step`` steps."""
        return any(phase.start == step for phase in self.phases[1:])

    def keeps_masks_at(self, step: int) -> bool:
        """Whether a snapshot of the masks is due: while they are learnt, where they are fixed, and at the end."""
        if self.directory is None or self.inheritance_map is None:
            return False
        phase = self.phase(step)
        every = max(1, (phase.end - phase.start) // NUM_MASK_SNAPSHOTS)
        is_last = phase.stage is not None and step == phase.end
        return step == phase.start or is_last or (phase.gates is not None and (step - phase.start) % every == 0)

    def evaluates_at(self, step: int) -> bool:
        return _is_due(step, self.config.evaluate.every_steps)

    def diagnoses_at(self, step: int) -> bool:
        return self.directory is not None and diagnoses_at(step, self._diagnose_every)

    def saves_at(self, step: int) -> bool:
        return _is_due(step, self.config.log.checkpoint_every_steps)

    def _named(self, values: Tensor) -> dict[str, float]:
        return dict(zip(self.objective.terms, values.tolist(), strict=True))


def _is_due(step: int, every_steps: int) -> bool:
    return every_steps > 0 and step % every_steps == 0
