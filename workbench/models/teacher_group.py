"""Several teachers as one, whose embeddings are those of all, concatenated.

Let teacher i have unit embeddings u_i of images and v_i of captions, scale s_i and weight w_i, and let Σ w = 1. The
concatenation of √c_i · u_i, and likewise of v_i, has unit length if Σ c = 1, and its cosines are Σ c_i ⟨u_i, v_i⟩. With
s = Σ w_i s_i as its scale:

- ``logits``: c_i = w_i s_i / s, so that s · cosine = Σ w_i s_i ⟨u_i, v_i⟩, the mean of the teachers' logits.
- ``embeddings``: c_i = w_i, so that the cosine is the mean of the teachers' cosines, whatever their scales.
- ``affinities``: as ``logits``; and the losses whose target is a softmax take the mean of the teachers' softmaxes
  instead, each at its own scale (MobileCLIP, arXiv 2311.17049).

So every loss that compares with one teacher compares with a group, dense or in blocks of rows, live or cached.

Shape letters: N rows · D the group's width, the sum of its members'.
"""

import copy
import json
from collections.abc import Sequence
from hashlib import sha256
from itertools import accumulate
from typing import Any, Literal, Self

import torch
from torch import Tensor

from workbench.embeddings import Embeddings, GroupMember
from workbench.models.teacher import Teacher

Combine = Literal["logits", "affinities", "embeddings"]


class TeacherGroup:
    """Teachers whose mean is the target. Each has its own resolution, normalization, resizing and tokenizer.

    Args:
        members: at least two, on one device.
        weights: positive, of each in the mean; only their ratios matter.
        scales: 1/τ of each; empty for those that they have learned.
        combine: what the mean is of.
    """

    def __init__(
        self,
        members: Sequence[Teacher],
        weights: Sequence[float],
        scales: Sequence[float] = (),
        combine: Combine = "logits",
    ) -> None:
        assert len(members) == len(weights) > 1
        self.members = tuple(members)
        self._combine = combine
        self._weights = [weight / sum(weights) for weight in weights]
        self._scales = list(scales) or [float(member.scale) for member in members]
        scaled = [weight * scale for weight, scale in zip(self._weights, self._scales, strict=True)]
        self.scale = torch.tensor(sum(scaled), device=members[0].scale.device)
        shares = self._weights if combine == "embeddings" else [part / sum(scaled) for part in scaled]
        self._shares = shares
        self.averaged = self._averaged() if combine == "affinities" else ()

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """Unit-length embeddings by each of :attr:`members`, as one tensor [N, D] of unit-length rows."""
        return torch.cat([share**0.5 * part for share, part in zip(self._shares, parts, strict=True)], dim=1)

    def _averaged(self) -> tuple[GroupMember, ...]:
        ends = list(accumulate(member.width for member in self.members))
        columns = [slice(end - member.width, end) for end, member in zip(ends, self.members, strict=True)]
        scales = [torch.tensor(scale, device=self.scale.device) for scale in self._scales]
        return tuple(map(GroupMember, columns, self._shares, self._weights, scales))

    @property
    def width(self) -> int:
        return sum(member.width for member in self.members)

    @property
    def num_parameters(self) -> dict[str, int]:
        """Of all members together."""
        counts = [member.num_parameters for member in self.members]
        return {name: sum(count[name] for count in counts) for name in counts[0]}

    @property
    def block_widths(self) -> tuple[int, ...]:
        """Raises ValueError: the blocks of several towers do not correspond."""
        raise ValueError(
            f"a loss compares the teacher's inner features, and {len(self.members)} teachers have no common blocks: "
            "name one teacher, or drop the loss (loss.intermediate.weight=0)"
        )

    @property
    def chunk_size(self) -> int:
        return self.members[0].chunk_size

    def in_chunks_of(self, chunk_size: int) -> Self:
        """The same models with another chunk size (:meth:`Teacher.in_chunks_of`)."""
        other = copy.copy(self)
        other.members = tuple(member.in_chunks_of(chunk_size) for member in self.members)
        return other

    def fingerprint(self) -> str:
        """SHA-256, hex, of the members' weights and of how they are combined: of all that decides the embeddings."""
        parts = [[member.fingerprint() for member in self.members], self._weights, self._scales, self._combine]
        return sha256(json.dumps(parts).encode()).hexdigest()

    def facts(self) -> dict[str, Any]:
        """What checkpoints record: :meth:`fingerprint`, the group's scale, and the facts of each member."""
        return {
            "weights_sha256": self.fingerprint(),
            "scale": float(self.scale),
            "members": [member.facts() for member in self.members],
        }


Teachers = Teacher | TeacherGroup


def joined_embeddings(teacher: Teachers, parts: Sequence[Embeddings]) -> Embeddings:
    """The teacher's embeddings of B pairs, from those of each of its members."""
    image_BD, text_BD = (
        teacher.joined(some) for some in zip(*((one.image_BD, one.text_BD) for one in parts), strict=True)
    )
    return Embeddings(image_BD, text_BD, teacher.scale, members=teacher.averaged)
