"""The gates of two towers: what is learned of them, and the constraint that closes as many as wanted.

A tower has one gate for every head and every FFN channel of each layer, and one for every embedding channel, shared by
all layers. Shape letters: C embedding channels, H heads and F FFN channels of all layers of a tower one after another.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from workbench.config.inheritance import GatesConfig, Tower, TowerShape
from workbench.inheritance.masks import (
    GROUPS,
    LIMIT,
    START,
    Masks,
    TowerMasks,
    draw,
    final_masks,
    likely_masks,
    open_probability,
    settled,
)
from workbench.randomness import derive_seed


@dataclass(frozen=True)
class GateValues:
    """How far the gates of a tower are open, from 0 to 1; heads and FFN channels apart by layer."""

    embedding_C: Tensor
    heads: tuple[Tensor, ...]
    channels: tuple[Tensor, ...]


class TowerGates(nn.Module):
    """log α of every gate of one tower: parameters ``embedding`` [C], ``heads`` [H] and ``channels`` [F]."""

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Parameter(torch.full((shape.width,), START))
        self.heads = nn.Parameter(torch.full((sum(shape.heads),), START))
        self.channels = nn.Parameter(torch.full((sum(shape.channels),), START))
        self.noise: dict[str, Tensor] = {}
        self.fixed: TowerMasks | None = None
        self.current: GateValues  # of the forward at hand

    def log_alpha(self, group: str) -> nn.Parameter:
        """One group's parameter."""
        return cast(nn.Parameter, getattr(self, group))

    def look(self, training: bool) -> None:
        """Set :attr:`current`: drawn while training; in evaluation, or once masks are fixed, masked and settled."""
        if training and self.fixed is None:
            assert self.noise, "gates.draw(seed, step) comes before the forward of a step"
            opening = {group: draw(self.log_alpha(group), self.noise[group]) for group in GROUPS}
        else:
            masks = self.masks()
            opening = {group: settled(self.log_alpha(group)) * getattr(masks, group) for group in GROUPS}
        self.current = GateValues(
            opening["embedding"],
            torch.split(opening["heads"], list(self.shape.heads)),
            torch.split(opening["channels"], list(self.shape.channels)),
        )

    def masks(self) -> TowerMasks:
        """The masks of evaluation: the fixed ones, or of each group and layer as many as are expected to stay open."""
        return self.fixed or likely_masks(self.shape, self.detached())

    def detached(self) -> dict[str, Tensor]:
        """log α by group, without gradient."""
        return {group: self.log_alpha(group).detach() for group in GROUPS}

    def expected_weights(self) -> Tensor:
        """The attention and FFN weights that are expected to stay, 0-d."""
        embedding, heads, channels = (open_probability(self.log_alpha(group)).sum() for group in GROUPS)
        return (4 * self.shape.head_width * heads + 2 * channels) * embedding


class Gates(nn.Module):
    """The gates of the towers that are to shrink, and the multipliers of the constraint on them together.

    Args:
        shapes: of the towers with gates, as they are now.
        config: the target and how to get there.
        teacher_weights: attention and FFN weights that the original teacher has in these towers: sparsity is counted
            from there, whatever has gone before.

    Raises:
        ValueError: the target is reached already.
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
                f"sparsity {config.sparsity} is no target: {self.start_sparsity:.3f} of the teacher is gone already"
            )

    def tower(self, tower: Tower) -> TowerGates:
        """The gates of one tower."""
        return cast(TowerGates, self.towers[tower])

    def log_alphas(self) -> list[nn.Parameter]:
        """What is learned by descent; :attr:`multipliers` ascend."""
        return [gates.log_alpha(group) for gates in self._each().values() for group in GROUPS]

    def draw(self, seed: int, step: int) -> None:
        """Draw the noise of one step, a function of (seed, step) only; all forwards of the step share it."""
        generator = torch.Generator().manual_seed(derive_seed(seed, "gates", step))
        for gates in self._each().values():
            for group in GROUPS:
                log_alpha = gates.log_alpha(group)
                noise = torch.rand(log_alpha.shape, generator=generator)
                gates.noise[group] = noise.to(log_alpha.device, non_blocking=True)

    def expected_sparsity(self) -> Tensor:
        """Share of the teacher's attention and FFN weights that is expected to be gone, 0-d."""
        left = torch.stack([gates.expected_weights() for gates in self._each().values()]).sum()
        return 1 - left / self.teacher_weights

    def target(self, step: int) -> float:
        """The sparsity wanted at ``step`` of the mask phase, counted from 0."""
        done = min(1.0, step / self.config.ramp_steps)
        return self.start_sparsity + done * (self.config.sparsity - self.start_sparsity)

    def penalty(self, step: int) -> Tensor:
        """λ1·(q − s) + λ2·(q − s)² for target q and expected sparsity s, 0-d: descend in log α, ascend in λ.

        Released: 0 where s has reached q.
        """
        missing = self.target(step) - self.expected_sparsity()
        linear, quadratic = self.multipliers
        penalty = linear * missing + quadratic * missing**2
        return torch.where(missing > 0, penalty, 0) if self.config.constraint == "released" else penalty

    @torch.no_grad()
    def clamp_(self) -> None:
        """Return every log α to ± ln 100 after an optimizer step."""
        for log_alpha in self.log_alphas():
            log_alpha.clamp_(-LIMIT, LIMIT)

    def masks(self) -> Masks:
        """The masks that evaluation and slicing go by."""
        return {tower: gates.masks() for tower, gates in self._each().items()}

    def final_masks(self) -> Masks:
        """The masks that meet the target exactly: :func:`~workbench.inheritance.masks.final_masks`."""
        shapes = {tower: gates.shape for tower, gates in self._each().items()}
        log_alphas = {tower: gates.detached() for tower, gates in self._each().items()}
        return final_masks(shapes, log_alphas, int((1 - self.config.sparsity) * self.teacher_weights))

    def open_probabilities(self) -> dict[str, Tensor]:
        """P(z ≠ 0) of every gate, named such as "image/heads": for an image of the masks as they form."""
        return {
            f"{tower}/{group}": open_probability(log_alpha)
            for tower, gates in self._each().items()
            for group, log_alpha in gates.detached().items()
        }

    def fix(self, masks: Masks | None) -> None:
        """Use these masks in every forward from now on; None lets the gates decide again."""
        for tower, gates in self._each().items():
            gates.fixed = None if masks is None else masks[tower]

    def _each(self) -> dict[Tower, TowerGates]:
        return {cast(Tower, tower): cast(TowerGates, gates) for tower, gates in self.towers.items()}
