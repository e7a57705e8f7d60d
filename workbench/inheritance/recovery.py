"""Which parts of a teacher a student has, recovered from the weights of both, for students without a run.

A released student does not tell which heads and channels it inherited. Training moves weights little compared with the
distance between different heads or channels, so each part of the student is matched with the part of the teacher whose
weights have the highest cosine. Shape letters: C embedding channels, H heads, F FFN channels, P parts of either kind,
D weights of a part; s and t for student and teacher.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.config.inheritance import TOWERS, Tower, TowerShape
from workbench.inheritance.inheritance_map import InheritanceMap
from workbench.inheritance.manual import blocks_of
from workbench.inheritance.selection import Numbers, TowerSelection
from workbench.inheritance.slicing import Weights
from workbench.models.clip import Clip
from workbench.models.configs import tower_shape, why_not_a_transformer
from workbench.models.towers import split_weights
from workbench.progress import track
from workbench.runs.snapshots import MaskSnapshot

# Tensors outside of blocks with a value for every embedding channel, and that channel's axis.
TABLES: dict[Tower, tuple[tuple[tuple[str, int], ...], ...]] = {
    "image": ((("conv1.weight", 0),), (("positional_embedding", 1), ("class_embedding", 0))),
    "text": ((("token_embedding.weight", 1),), (("positional_embedding", 1),)),
}
NUM_SAMPLED = 64  # parts of a layer that decide which layer of the teacher it is
CLEAR = 0.1  # cosine above chance from which weights count as inherited


@dataclass(frozen=True)
class Match:
    """The mean cosine between the student's parts of a kind and the teacher's that they match.

    ``chance`` is the mean of the highest cosines if the student's weights are permuted within each part, which leaves
    nothing to match.
    """

    cosine: float
    chance: float

    @property
    def is_clear(self) -> bool:
        """Whether the weights are inherited rather than of an unrelated model."""
        return self.cosine - self.chance > CLEAR


@dataclass(frozen=True)
class Recovered:
    """The parts of the teacher that a student has, as the masks of a run would have them.

    Attributes:
        snapshot: kept parts have the value 1.
        matches: by tower, for "embedding", "heads" and "channels", as far as the student has any.
    """

    snapshot: MaskSnapshot
    matches: dict[Tower, dict[str, Match]]

    @property
    def unlike(self) -> list[Tower]:
        """Towers that do not resemble the teacher's, so that their matches mean nothing."""
        return [tower for tower, found in self.matches.items() if not all(one.is_clear for one in found.values())]

    def to_json(self) -> dict[str, Any]:
        """The matches in ``--json``."""
        return {
            tower: {group: asdict(match) | {"is_clear": match.is_clear} for group, match in found.items()}
            for tower, found in self.matches.items()
        }


@torch.no_grad()
def recover(student: Clip, teacher: Clip) -> Recovered:
    """Match every layer, embedding channel, head and FFN channel of the student with one of the teacher's.

    Layers keep their order. Each part of the teacher is matched once; a student of the teacher's own size has all.

    Raises:
        ValueError: no tower can be compared, with the reason: other towers than transformers, a larger student, or
            neither equal patches nor equal vocabularies.
    """
    found, matches, shapes, reasons = {}, {}, {}, []
    for tower in TOWERS:
        try:
            found[tower], matches[tower] = _recover_tower(student, teacher, tower)
            shapes[tower] = tower_shape(teacher.config, tower)
        except ValueError as error:
            reasons.append(str(error))
    if not found:
        raise ValueError(f"nothing to compare: {'; '.join(reasons)}")
    return Recovered(InheritanceMap(shapes, found).snapshot(step=0, stage=0), matches)


def _recover_tower(student: Clip, teacher: Clip, tower: Tower) -> tuple[TowerSelection, dict[str, Match]]:
    ours, theirs = (_shape_of(model, tower, whose) for model, whose in ((student, "student"), (teacher, "teacher")))
    _check_shapes(ours, theirs, tower)
    matches: dict[str, list[Match]] = {"embedding": [], "heads": [], "channels": []}
    embedding_C, match = _match_embedding(student, teacher, tower)
    matches["embedding"].append(match)
    blocks_s = [_parts(block, ours.head_width, None) for block in blocks_of(student, tower)]
    blocks_t = [_parts(block, theirs.head_width, embedding_C) for block in blocks_of(teacher, tower)]
    layers = _aligned(blocks_s, blocks_t)
    kept: dict[str, list[Numbers]] = {"heads": [], "channels": []}
    for layer, parts in zip(
        layers, track(blocks_s, f"matching the {tower} tower's layers", len(blocks_s)), strict=True
    ):
        for group, numbers in kept.items():
            if group not in parts:
                numbers.append(())
                continue
            index_P, match = _match(parts[group], blocks_t[layer][group])
            numbers.append(tuple(sorted(index_P.tolist())))
            matches[group].append(match)
    selection = TowerSelection(
        layers=layers,
        embedding=tuple(sorted(embedding_C.tolist())),
        heads=tuple(kept["heads"]),
        channels=tuple(kept["channels"]),
    )
    return selection, {group: _mean(own) for group, own in matches.items() if own}


def _shape_of(model: Clip, tower: Tower, whose: str) -> TowerShape:
    if trouble := why_not_a_transformer(model.config, tower):
        raise ValueError(f"the {whose}'s {tower} tower {trouble}")
    return tower_shape(model.config, tower)


def _check_shapes(ours: TowerShape, theirs: TowerShape, tower: Tower) -> None:
    if ours.head_width != theirs.head_width:
        raise ValueError(
            f"the {tower} tower has heads of {ours.head_width} channels, the teacher's of {theirs.head_width}"
        )
    pairs = {
        "layers": (ours.num_layers, theirs.num_layers),
        "embedding channels": (ours.width, theirs.width),
        "heads in a layer": (max(ours.heads), max(theirs.heads)),
        "FFN channels in a layer": (max(ours.channels), max(theirs.channels)),
    }
    for what, (own, other) in pairs.items():
        if own > other:
            raise ValueError(f"the {tower} tower has {own:,} {what}, more than the teacher's {other:,}")


def _match_embedding(student: Clip, teacher: Clip, tower: Tower) -> tuple[Tensor, Match]:
    """The teacher's channel of each of the student's, by the tables outside of blocks of which both have the shape."""
    ours, theirs = (split_weights(model.towers.state_dict())[tower] for model in (student, teacher))
    cosines, permuted = [], []
    for tables in TABLES[tower]:
        one, other = (
            [weights[name].movedim(axis, 0).flatten(1) if weights[name].ndim > 1 else weights[name][:, None]
             for name, axis in tables if name in weights]
            for weights in (ours, theirs)
        )  # fmt: skip
        if not one or [rows.shape[1] for rows in one] != [rows.shape[1] for rows in other]:
            continue
        one_CD, other_CD = torch.cat(one, dim=1), torch.cat(other, dim=1)
        cosines.append(_cosines(one_CD, other_CD))
        permuted.append(_cosines(_permuted(one_CD), other_CD))
    if not cosines:
        raise ValueError(
            f"the {tower} tower has other {'patches' if tower == 'image' else 'tokens'} than the teacher's"
        )
    # Tables count the same, whatever their size: a patch has 48 to 3,072 weights, a vocabulary 49,408 tokens.
    cosine_CC, permuted_CC = torch.stack(cosines).mean(0), torch.stack(permuted).mean(0)
    return _assigned(cosine_CC), _match_of(cosine_CC, permuted_CC)


def _parts(block: Weights, head_width: int, embedding_C: Tensor | None) -> dict[str, Tensor]:
    """Weights of each head and FFN channel [P, D], of the given embedding channels only; without absent branches."""
    found = {}
    if "attn.in_proj_weight" in block:
        inward = _of(block["attn.in_proj_weight"], embedding_C)
        outward = _of(block["attn.out_proj.weight"].T, embedding_C)
        # Queries, keys and values are stacked; a head has consecutive rows in each.
        rows = [*inward.chunk(3), outward]
        found["heads"] = torch.cat([one.reshape(len(one) // head_width, -1) for one in rows], dim=1)
    if "mlp.c_fc.weight" in block:
        both = _of(block["mlp.c_fc.weight"], embedding_C), _of(block["mlp.c_proj.weight"].T, embedding_C)
        found["channels"] = torch.cat(both, dim=1)
    return found


def _of(weight_PC: Tensor, embedding_C: Tensor | None) -> Tensor:
    return weight_PC if embedding_C is None else weight_PC[:, embedding_C]


def _aligned(blocks_s: Sequence[dict[str, Tensor]], blocks_t: Sequence[dict[str, Tensor]]) -> Numbers:
    """The teacher's layer of each of the student's, ascending, with the highest sum of cosines."""
    scores = [[_likeness(one, other) for other in blocks_t] for one in blocks_s]
    num_spare = len(blocks_t) - len(blocks_s)
    # best[skipped]: the highest sum so far if this many of the teacher's layers were skipped, and the layers taken.
    best: list[tuple[float, Numbers]] = [(0.0, ())] * (num_spare + 1)
    for layer, row in enumerate(scores):
        candidates = [
            (total + row[layer + skipped], (*taken, layer + skipped)) for skipped, (total, taken) in enumerate(best)
        ]
        best = [max(candidates[: skipped + 1], key=lambda one: one[0]) for skipped in range(num_spare + 1)]
    return best[-1][1]


def _likeness(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The mean of the highest cosines of some parts of a layer; 0 if a layer has nothing left."""
    values = []
    for group, parts_PD in one.items():
        if group in other:
            step = max(1, len(parts_PD) // NUM_SAMPLED)
            values.append(float(_cosines(parts_PD[::step], other[group]).amax(1).mean()))
    return sum(values) / len(values) if values else 0.0


def _match(one_PD: Tensor, other_PD: Tensor) -> tuple[Tensor, Match]:
    cosine_PP = _cosines(one_PD, other_PD)
    return _assigned(cosine_PP), _match_of(cosine_PP, _cosines(_permuted(one_PD), other_PD))


def _match_of(cosine_PP: Tensor, permuted_PP: Tensor) -> Match:
    index_P = _assigned(cosine_PP)
    own_P = cosine_PP[torch.arange(len(index_P)), index_P]
    return Match(float(own_P.mean()), float(permuted_PP.amax(1).mean()))


def _assigned(cosine_PP: Tensor) -> Tensor:
    """int64 [P]: a different column for each row, with the highest sum."""
    best_P = cosine_PP.argmax(1)
    if len(set(best_P.tolist())) == len(best_P):
        return best_P  # the usual case, and much faster than the assignment problem
    from scipy.optimize import linear_sum_assignment

    _, columns = linear_sum_assignment(cosine_PP.double().numpy(), maximize=True)
    return torch.from_numpy(columns)


def _cosines(one_PD: Tensor, other_PD: Tensor) -> Tensor:
    return F.normalize(one_PD.float(), dim=1) @ F.normalize(other_PD.float(), dim=1).T


def _permuted(parts_PD: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return parts_PD[:, torch.randperm(parts_PD.shape[1], generator=generator)]


def _mean(matches: Sequence[Match]) -> Match:
    def mean(values: Iterator[float]) -> float:
        return sum(values) / len(matches)

    return Match(mean(one.cosine for one in matches), mean(one.chance for one in matches))
