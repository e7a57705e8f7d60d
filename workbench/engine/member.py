"""One student of a cohort: its state, its objective, and one step of its training."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from workbench.config.run import RunConfig
from workbench.embeddings import Batch
from workbench.engine.backward import backward
from workbench.engine.diagnostics import diagnose_every, diagnoses_at
from workbench.engine.lessons import Lesson
from workbench.engine.schedule import learning_rate
from workbench.engine.spikes import Spikes
from workbench.engine.state import TrainState
from workbench.events import StepDone
from workbench.losses.objective import Objective
from workbench.models.masking import kept_patches
from workbench.runs.directory import RunDirectory

SHOWN_KEYS = 3


@dataclass(frozen=True)
class Divergence:
    """A step whose loss or gradient was not finite, and where it showed first.

    ``parameter`` is the first whose gradient was not, and ``keys`` are pairs of the batch; both known on a CPU only,
    for a GPU is not waited for at every step.
    """

    step: int
    term: str
    parameter: str = ""
    keys: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f" (first in the gradient of {self.parameter}; pairs {', '.join(self.keys)}, ...)" if self.keys else ""
        return f"{self.term} was not finite at step {self.step}{where}"


class Member:
    """A student in training.

    Args:
        directory: where its checkpoints go and its commands come from; None keeps nothing.
    """

    def __init__(
        self, run: str, config: RunConfig, state: TrainState, objective: Objective, directory: RunDirectory | None
    ) -> None:
        self.run = run
        self.config = config
        self.state = state
        self.objective = objective
        self.directory = directory
        self.data_fingerprint = ""  # of the training pairs
        self.step = 0  # steps taken
        self.saved_step = -1  # at which saving was last tried
        self.unsaved = ""  # why that failed, if it did
        self.elapsed_s = 0.0
        self.spikes = Spikes()
        self._diagnose_every = diagnose_every(
            config.log.diagnose_every_steps, len(objective.terms), config.train.num_steps
        )
        self._parameters = [p for p in state.parameters() if p.requires_grad]
        device = self._parameters[0].device
        self._terms = torch.zeros(len(objective.terms), device=device)
        self._norm = torch.zeros((), device=device)
        self._rate = 0.0
        self._weights: dict[str, float] = {}
        # Where it first went wrong, kept on the device so that a GPU is never waited for between two logs.
        self._bad_step = torch.full((), -1, device=device)
        self._bad_terms = torch.zeros_like(self._terms)
        self._bad_parameter = ""
        self._bad_keys: tuple[str, ...] = ()

    def learn(self, batch: Batch, lesson: Lesson | None, step: int) -> None:
        """Take optimiser step ``step`` (from 0). A non-finite gradient leaves the weights as they are."""
        config, optimizer = self.config, self.state.optimizer
        self.state.student.train()
        optimizer.zero_grad(set_to_none=True)
        values = backward(
            self.state,
            self.masked(batch, step),
            lesson,
            self.objective,
            step,
            micro_batch_size=config.train.micro_batch_size,
            precision=config.train.precision,
        )
        self._norm = get_total_norm([p.grad for p in self._parameters if p.grad is not None])
        self._look_for_the_cause(batch)
        if config.optimizer.clip_norm > 0:
            clip_grads_with_norm_(self._parameters, config.optimizer.clip_norm, self._norm)
        self._rate = learning_rate(
            step, config.train.num_steps, config.optimizer.learning_rate, config.optimizer.warmup_fraction
        )
        for group in optimizer.param_groups:
            group["lr"] = self._rate
        self._weights = self.objective.weights_at(step)
        off = torch.zeros_like(self._norm)
        self._terms = torch.stack([values.terms.get(name, off) for name in self.objective.terms])
        bad = ~(self._norm.isfinite() & values.total.detach().isfinite())
        optimizer.found_inf = bad.float()  # type: ignore[attr-defined]  # AdamW(fused=True) skips the update by it
        optimizer.step()
        self.state.clamp_()
        self.step = step + 1
        first = bad & (self._bad_step < 0)
        self._bad_step = torch.where(first, step + 1, self._bad_step)
        self._bad_terms = torch.where(first, self._terms, self._bad_terms)

    def masked(self, batch: Batch, step: int) -> Batch:
        """The batch with the patches that this student sees, where a loss removes some."""
        masking = self.objective.demands(step).masking
        if masking is None:
            return batch
        kept_BK = kept_patches(batch.keys, self.state.student.num_patches, masking.ratio, self.config.seed, step)
        return replace(batch, kept_BK=None if kept_BK is None else kept_BK.to(batch.student_image_BCHW.device))

    def _look_for_the_cause(self, batch: Batch) -> None:
        """Remember where a gradient is not finite for the first time, before clipping spreads it to all."""
        if self._norm.device.type != "cpu" or self._bad_keys or self._norm.isfinite():
            return
        gradients = ((name, p.grad) for name, p in self.state.named_parameters() if p.grad is not None)
        self._bad_parameter = next((name for name, grad in gradients if not grad.isfinite().all()), "none alone")
        self._bad_keys = batch.keys[:SHOWN_KEYS]

    def divergence(self) -> Divergence | None:
        """Whether a step so far was not finite; waits for the device."""
        step = int(self._bad_step)
        if step < 0:
            return None
        names = [name for name, value in self._named(self._bad_terms).items() if not math.isfinite(value)]
        return Divergence(step, names[0] if names else "gradient norm", self._bad_parameter, self._bad_keys)

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
            grad_norm=float(self._norm),
            step_time_s=step_time_s,
            pairs_per_s=batch_size / step_time_s,
            elapsed_s=self.elapsed_s,
            peak_mb=peak_mb,
        )

    def reports_at(self, step: int) -> bool:
        """Whether the step is logged, evaluated or saved: everything that looks at the weights waits for a log."""
        logged = step == 1 or step % self.config.log.every_steps == 0
        return logged or self.evaluates_at(step) or self.saves_at(step) or self.diagnoses_at(step)

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
