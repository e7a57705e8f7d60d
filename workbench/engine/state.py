"""The train state: everything that is trained, and its optimizer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from workbench.config.run import OptimizerConfig
from workbench.inheritance.gates import Gates
from workbench.losses.learned import LearnedParts
from workbench.models.clip import Clip


class TrainState(nn.Module):
    """A student, the learned parts of its losses, its pruning gates if any, and one optimizer for all.

    Every parameter of this module is optimized, clipped, saved and resumed. Gates and their multipliers are an
    exception: they have their own learning rate, no weight decay, and no clipping.
    """

    def __init__(
        self, student: Clip, learned: LearnedParts, config: OptimizerConfig, gates: Gates | None = None
    ) -> None:
        super().__init__()
        self.student = student
        self.add_module("learnt", learned)  # as checkpoints name its tensors
        self.gates = gates
        self.weights = [p for module in (student, learned) for p in module.parameters() if p.requires_grad]
        self.optimizer = _make_optimizer(self.weights, gates, config)

    @property
    def learned(self) -> LearnedParts:
        """The learned parts of the losses."""
        parts = self.get_submodule("learnt")
        assert isinstance(parts, LearnedParts)
        return parts

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of everything but the gates and their multipliers."""
        for group in self.optimizer.param_groups:
            if group["is_scheduled"]:
                group["lr"] = rate

    def clamp_(self) -> None:
        """Clamp every learned scale and gate to its range."""
        self.student.clamp_scale_()
        self.learned.clamp_()
        if self.gates:
            self.gates.clamp_()

    def scales(self) -> dict[str, Tensor]:
        """Every learned logit scale by name, 0-d, detached; that of the student is "student"."""
        return {"student": self.student.scale.detach(), **self.learned.scales()}

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """A block after which buffers, train mode and random state of the device are as before."""
        was_training = self.student.training
        buffers = {buffer: buffer.clone() for buffer in self.buffers()}
        device = self.student.scale.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            try:
                yield
            finally:
                with torch.no_grad():
                    for buffer, before in buffers.items():
                        buffer.copy_(before)
                self.student.train(was_training)

    def zero_whole_batch_gradients(self) -> None:
        """Zero the gradients that every rank has whole, so that their sum over ranks counts rank 0's alone.

        They are those of the scale, the bias and the losses' learned parts, which the loss of the whole batch depends
        on directly; the gradients of the towers are sums over pairs.
        """
        for parameter in (*self.student.logit_parameters, *self.learned.parameters()):
            if parameter.grad is not None:
                parameter.grad.zero_()

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """The optimizer's state as flat named tensors: ``{parameter}/{quantity}``."""
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.named_parameters()}
        return {
            f"{names[parameter]}/{quantity}": value
            for parameter, quantities in self.optimizer.state.items()
            for quantity, value in quantities.items()
        }

    def load_optimizer_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Load what :meth:`optimizer_tensors` returned."""
        parameters = dict(self.named_parameters())
        self.optimizer.state.clear()
        for key, value in tensors.items():
            name, quantity = key.rsplit("/", 1)
            parameter = parameters[name]
            # The fused kernel reads weights and moments in memory order and ignores strides, so moments take the
            # strides of their parameter (channels_last or not); it reads ``step`` on the device of the weights.
            own = torch.empty((), device=parameter.device) if quantity == "step" else torch.empty_like(parameter)
            self.optimizer.state[parameter][quantity] = own.copy_(value)


def _make_optimizer(weights: list[nn.Parameter], gates: Gates | None, config: OptimizerConfig) -> AdamW:
    """AdamW with weight decay on matrices only: gains, biases and scales have fewer than two dimensions."""
    groups: list[dict[str, Any]] = [
        {"params": [p for p in weights if p.ndim >= 2], "weight_decay": config.weight_decay, "is_scheduled": True},
        {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0, "is_scheduled": True},
    ]
    if gates:
        own = {"lr": gates.config.learning_rate, "weight_decay": 0.0, "is_scheduled": False}
        # The multipliers ascend while everything else descends: the Lagrangian of the sparsity constraint.
        groups += [own | {"params": gates.log_alphas()}, own | {"params": [gates.multipliers], "maximize": True}]
    return AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True)
