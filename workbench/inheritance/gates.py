"""Learned pruning masks (TinyCLIP): hard-concrete gates of both towers, and the constraint on their expected sparsity.

A tower has one gate per head and FFN channel of each layer, and one per embedding channel, shared by all layers.
Shape letters: C embedding channels, H heads and F FFN channels of all layers of a tower, concatenated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from workbench.config.inheritance import GatesConfig, Tower, TowerShape
from workbench.embeddings import onto
from workbench.inheritance.masks import (
    GROUPS,
    INITIAL_LOG_ALPHA,
    MAX_LOG_ALPHA,
    Masks,
    TowerMasks,
    deterministic_gates,
    expected_masks,
    final_masks,
    open_probability,
    sample_gates,
)
from workbench.randomness import derive_seed


@dataclass(frozen=True)
class GateValues:
    """Values of a tower's gates in [0, 1]: embedding [C]; heads and channels by layer."""

    embedding_C: Tensor
    heads: tuple[Tensor, ...]
    channels: tuple[Tensor, ...]


class TowerGates(nn.Module):
    """Gates of one tower; its parameters are their log α: ``embedding`` [C], ``heads`` [H] and ``channels`` [F]."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Parameter(torch.full((shape.width,), INITIAL_LOG_ALPHA))
        self.heads = nn.Parameter(torch.full((sum(shape.heads),), INITIAL_LOG_ALPHA))
        self.channels = nn.Parameter(torch.full((sum(shape.channels),), INITIAL_LOG_ALPHA))
        self.noise: dict[str, Tensor] = {}
        self.fixed: TowerMasks | None = None
        self.values: GateValues  # of the current forward

    def log_alpha(self, group: str) -> nn.Parameter:
        """log α of one group."""
        return cast(nn.Parameter, getattr(self, group))

    def update_values(self, training: bool) -> None:
        """Set :attr:`values`: hard-concrete samples in training, masked deterministic values in evaluation.

        Once masks are fixed, the deterministic values are used in training too.
        """
        if training and self.fixed is None:
            # Noise is drawn once per step and not here: the forwards of a step (micro-batches, a masked view) must see
            # the same subnetwork.
            assert self.noise, "call gates.sample_noise(seed, step) before the forward of a step"
            values = {group: sample_gates(self.log_alpha(group), self.noise[group]) for group in GROUPS}
        else:
            masks = self.masks()
            values = {group: deterministic_gates(self.log_alpha(group)) * getattr(masks, group) for group in GROUPS}
        self.values = GateValues(
            values["embedding"],
            torch.split(values["heads"], list(self.shape.heads)),
            torch.split(values["channels"], list(self.shape.channels)),
        )

    def masks(self) -> TowerMasks:
        """Masks used in evaluation: the fixed ones, otherwise :func:`~workbench.inheritance.masks.expected_masks`."""
        return self.fixed or expected_masks(self.shape, self.detached())

    def detached(self) -> dict[str, Tensor]:
        """log α by group, without gradient."""
        return {group: self.log_alpha(group).detach() for group in GROUPS}

    def expected_weights(self) -> Tensor:
        """Expected number of attention and FFN weights that stay, 0-d, differentiable."""
        embedding, heads, channels = (open_probability(self.log_alpha(group)).sum() for group in GROUPS)
        # Gates are independent, so the expectation of the product is the product of the expectations. A head has four
        # matrices of head_width × C, an FFN channel a row and a column of C.
        return (4 * self.shape.head_width * heads + 2 * channels) * embedding


class Gates(nn.Module):
    """Gates of the towers to prune, and the Lagrange multipliers of the sparsity constraint on all of them together.

    Args:
        shapes: current shapes of the towers with gates.
        config: the sparsity target and its schedule.
        teacher_weights: attention and FFN weights of these towers in the original teacher. Sparsity is relative to
            these, also where earlier stages have pruned some.

    Raises:
        ValueError: the target is already met.
    """

    def __init__(self, shapes: Mapping[Tower, TowerShape], config: GatesConfig, teacher_weights: int) -> None:
        super().__init__()
        self.config = config
        self.teacher_weights = teacher_weights
        self.towers = nn.ModuleDict({tower: TowerGates(shape) for tower, shape in shapes.items()})
        self.multipliers = nn.Parameter(torch.full((2,), 10.0))  # λ1 and λ2
        self.start_sparsity = 1 - sum(shape.block_weights for shape in shapes.values()) / teacher_weights
        if config.sparsity <= self.start_sparsity:
            raise ValueError(
                f"sparsity {config.sparsity} is already met: {self.start_sparsity:.3f} is removed, set a higher one"
            )

    def tower(self, tower: Tower) -> TowerGates:
        """The gates of one tower."""
        return cast(TowerGates, self.towers[tower])

    def log_alphas(self) -> list[nn.Parameter]:
        """Parameters trained by gradient descent; :attr:`multipliers` are trained by ascent."""
        return [gates.log_alpha(group) for gates in self._each().values() for group in GROUPS]

    def sample_noise(self, seed: int, step: int) -> None:
        """Sample the noise of one step, a function of (seed, step) only, shared by all forwards of the step."""
        generator = torch.Generator().manual_seed(derive_seed(seed, "gates", step))
        for gates in self._each().values():
            for group in GROUPS:
                log_alpha = gates.log_alpha(group)
                # On the CPU, so that every device sees the same noise.
                noise = torch.rand(log_alpha.shape, generator=generator)
                gates.noise[group] = onto(log_alpha.device, noise)

    def expected_sparsity(self) -> Tensor:
        """Expected share of the teacher's attention and FFN weights that is removed, 0-d, differentiable."""
        left = torch.stack([gates.expected_weights() for gates in self._each().values()]).sum()
        return 1 - left / self.teacher_weights

    def target(self, step: int) -> float:
        """The sparsity target at ``step`` of the mask phase (from 0): a linear ramp, then constant."""
        done = min(1.0, step / self.config.ramp_steps)
        return self.start_sparsity + done * (self.config.sparsity - self.start_sparsity)

    def penalty(self, step: int) -> Tensor:
        """The Lagrangian λ1·(q − s) + λ2·(q − s)² for target q and expected sparsity s, 0-d.

        Minimized over log α and maximized over λ. In the released code it is 0 once s reaches q.
        """
        # Positive while too little is pruned. Ascent on λ raises the price of a violation until the constraint holds.
        missing = self.target(step) - self.expected_sparsity()
        linear, quadratic = self.multipliers
        penalty = linear * missing + quadratic * missing**2
        # torch.where instead of `if`: no host synchronization in the step.
        return torch.where(missing > 0, penalty, 0) if self.config.constraint == "released" else penalty

    @torch.no_grad()
    def clamp_(self) -> None:
        """Clamp every log α to ± ln 100, after an optimizer step."""
        for log_alpha in self.log_alphas():
            log_alpha.clamp_(-MAX_LOG_ALPHA, MAX_LOG_ALPHA)

    def masks(self) -> Masks:
        """Masks used in evaluation and slicing."""
        return {tower: gates.masks() for tower, gates in self._each().items()}

    def final_masks(self) -> Masks:
        """Masks that meet the target exactly: :func:`~workbench.inheritance.masks.final_masks`."""
        shapes = {tower: gates.shape for tower, gates in self._each().items()}
        log_alphas = {tower: gates.detached() for tower, gates in self._each().items()}
        return final_masks(shapes, log_alphas, int((1 - self.config.sparsity) * self.teacher_weights))

    def open_probabilities(self) -> dict[str, Tensor]:
        """P(z ≠ 0) of every gate, by names such as "image/heads", for figures of the learned masks."""
        return {
            f"{tower}/{group}": open_probability(log_alpha)
            for tower, gates in self._each().items()
            for group, log_alpha in gates.detached().items()
        }

    def fix(self, masks: Masks | None) -> None:
        """Use these masks in every forward from now on; None returns to the learned gates."""
        for tower, gates in self._each().items():
            gates.fixed = None if masks is None else masks[tower]

    def _each(self) -> dict[Tower, TowerGates]:
        return {cast(Tower, tower): cast(TowerGates, gates) for tower, gates in self.towers.items()}
