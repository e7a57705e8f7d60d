"""Random unit embeddings in float64 of a student and a teacher, and reference implementations of all equations."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.embeddings import Embeddings
from workbench.losses.comparison import Features
from workbench.losses.learned import StandaloneLoss

Make = Callable[..., Embeddings]
Rows = Sequence[Sequence[float]]
Arguments = tuple[Embeddings, Embeddings, Features | None]


@pytest.fixture(scope="session")
def embeddings() -> Make:
    """``embeddings(seed, num_pairs, width, scale)``; equal arguments give equal embeddings, leaves with gradients."""
    return _embeddings


def _embeddings(
    seed: int, num_pairs: int = 6, width: int = 5, scale: float = 14.3, dtype: torch.dtype = torch.float64
) -> Embeddings:
    generator = torch.Generator().manual_seed(seed)
    image_BD, text_BD = (
        F.normalize(torch.randn(num_pairs, width, generator=generator, dtype=torch.float64), dim=1)
        .to(dtype)
        .requires_grad_()
        for _ in range(2)
    )
    return Embeddings(image_BD, text_BD, torch.tensor(scale, dtype=dtype, requires_grad=True))


@pytest.fixture(scope="session")
def arguments() -> Callable[..., Arguments]:
    """``loss(*arguments(name))``: a student, a wider teacher whose scale is 50, and features where the loss wants them.

    The student's side are leaves with gradients, the teacher's are constants.
    """
    return _arguments


def _arguments(
    name: str, num_pairs: int = 6, width: int = 3, teacher_width: int = 4, dtype: torch.dtype = torch.float64
) -> Arguments:
    student = _embeddings(1, num_pairs, width, 14.3, dtype)
    if name == "sigmoid":
        student = replace(student, bias=torch.tensor(-3.0, dtype=dtype, requires_grad=True))
    teacher = _embeddings(2, num_pairs, teacher_width, 50.0, dtype)
    teacher = Embeddings(teacher.image_BD.detach(), teacher.text_BD.detach(), teacher.scale.detach())
    if name != "intermediate":
        return student, teacher, None
    generator = torch.Generator().manual_seed(3)
    ours, theirs = (
        torch.randn(num_pairs, *shape, generator=generator, dtype=torch.float64).to(dtype)
        for shape in ((2, 4, 4), (3, 2, 2))
    )
    return student, teacher, Features((ours.requires_grad_(),), (theirs,))


@pytest.fixture(scope="session")
def leaves() -> Callable[..., dict[str, Tensor]]:
    """``leaves(loss, *arguments)``: everything the loss can move, by name: the student's side and its learned parts."""
    return _leaves


def _leaves(
    loss: StandaloneLoss, student: Embeddings, _teacher: Embeddings, features: Features | None = None
) -> dict[str, Tensor]:
    assert loss.learned is not None
    found = {"image": student.image_BD, "text": student.text_BD, "scale": student.scale}
    found |= {} if student.bias is None else {"bias": student.bias}
    found |= {f"feature {n}": feature for n, feature in enumerate(features.student if features else ())}
    return found | dict(loss.learned.named_parameters())


class BruteForce:
    """The equations of PAPERS.md once more, as loops over numbers: an oracle that shares no code with the package.

    A method named for a loss gives it in the paper's convention, the way it is printed: sums over directions where the
    paper sums. Scales are positive numbers.
    """

    @staticmethod
    def log_affinity(
        anchor_BD: Tensor, other_BD: Tensor, scale: float, keep_diagonal: bool = True
    ) -> list[list[float]]:
        """log softmax_b(scale · anchor[k]·other[b]), a row for every anchor k; without its diagonal that is −∞."""
        table = []
        for k, anchor in enumerate(anchor_BD.tolist()):
            logits = [scale * sum(a * o for a, o in zip(anchor, other, strict=True)) for other in other_BD.tolist()]
            if not keep_diagonal:
                logits[k] = -math.inf
            total = math.log(sum(math.exp(logit) for logit in logits))
            table.append([logit - total for logit in logits])
        return table

    @staticmethod
    def cross_entropy(target: Rows, ours: Rows) -> float:
        """mean_k −Σ_b exp(target[k, b]) · ours[k, b] of two tables of logarithms."""
        pairs = [pair for t, o in zip(target, ours, strict=True) for pair in zip(t, o, strict=True)]
        return sum(-math.exp(t) * o for t, o in pairs if t > -math.inf) / len(target)

    @classmethod
    def kl(cls, target: Rows, ours: Rows) -> float:
        return cls.cross_entropy(target, ours) - cls.cross_entropy(target, target)

    @classmethod
    def info_nce(cls, anchor_BD: Tensor, other_BD: Tensor, scale: float) -> float:
        table = cls.log_affinity(anchor_BD, other_BD, scale)
        return sum(-row[k] for k, row in enumerate(table)) / len(table)

    @staticmethod
    def squared_distance(a: Tensor | Rows, b: Tensor | Rows) -> float:
        """Mean over rows of the squared Euclidean distance."""
        a, b = (x.tolist() if isinstance(x, Tensor) else x for x in (a, b))
        pairs = [pair for x, y in zip(a, b, strict=True) for pair in zip(x, y, strict=True)]
        return sum((x - y) ** 2 for x, y in pairs) / len(a)

    @staticmethod
    def unit_linear(rows_BD: Tensor | Rows, layer: nn.Linear) -> Tensor:
        """Every row through the layer, then scaled to unit length."""
        weights, biases = layer.weight.tolist(), layer.bias.tolist()
        results = []
        for row in rows_BD.tolist() if isinstance(rows_BD, Tensor) else rows_BD:
            mapped = [sum(w * x for w, x in zip(weight, row, strict=True)) for weight in weights]
            mapped = [value + bias for value, bias in zip(mapped, biases, strict=True)]
            length = math.sqrt(sum(value**2 for value in mapped))
            results.append([value / length for value in mapped])
        return torch.tensor(results, dtype=torch.float64)

    @classmethod
    def projected(cls, student: Embeddings, loss: StandaloneLoss) -> Embeddings:
        """The student at the teacher's width, through the projections that the loss made at its first call."""
        assert loss.learned is not None
        image, text = (loss.learned.projections[side] for side in ("image", "text"))
        return Embeddings(
            cls.unit_linear(student.image_BD, image), cls.unit_linear(student.text_BD, text), student.scale
        )

    @classmethod
    def pulls(cls, anchor_BD: Tensor, other_BD: Tensor, scale: float) -> tuple[Rows, Rows]:
        """Gradients of Σ_k −log softmax_b(scale · anchor[k]·other[b])[k] at the anchors and at the others."""
        table = cls.log_affinity(anchor_BD, other_BD, scale)
        anchors, others = anchor_BD.tolist(), other_BD.tolist()
        width, everyone = range(len(anchors[0])), range(len(anchors))
        residual = [[math.exp(table[k][b]) - (k == b) for b in everyone] for k in everyone]
        at_anchors = [[scale * sum(residual[k][b] * others[b][d] for b in everyone) for d in width] for k in everyone]
        at_others = [[scale * sum(residual[k][b] * anchors[k][d] for k in everyone) for d in width] for b in everyone]
        return at_anchors, at_others

    # The losses, from here on.

    @classmethod
    def clip(cls, student: Embeddings, _teacher: object, scale: float, _teacher_scale: object = None) -> float:
        image_to_text = cls.info_nce(student.image_BD, student.text_BD, scale)
        return (image_to_text + cls.info_nce(student.text_BD, student.image_BD, scale)) / 2

    @staticmethod
    def sigmoid(student: Embeddings, scale: float, bias: float) -> float:
        total = 0.0
        for k, image in enumerate(student.image_BD.tolist()):
            for b, text in enumerate(student.text_BD.tolist()):
                logit = scale * sum(i * t for i, t in zip(image, text, strict=True)) + bias
                total += math.log1p(math.exp(-logit if k == b else logit))
        return total / len(student)

    @classmethod
    def crd(cls, student: Embeddings, teacher: Embeddings, scale: float, teacher_scale: float) -> float:
        return sum(
            cls.kl(cls.log_affinity(*anchors_of(teacher), teacher_scale), cls.log_affinity(*anchors_of(student), scale))
            for anchors_of in BOTH_DIRECTIONS
        )

    @classmethod
    def fd(cls, student: Embeddings, teacher: Embeddings) -> float:
        image = cls.squared_distance(student.image_BD, teacher.image_BD)
        return image + cls.squared_distance(student.text_BD, teacher.text_BD)

    @classmethod
    def gd(cls, student: Embeddings, teacher: Embeddings, scale: float, teacher_scale: float) -> float:
        ours, theirs = cls.clip_gradients(student, scale), cls.clip_gradients(teacher, teacher_scale)
        return sum(cls.squared_distance(x, y) for x, y in zip(ours, theirs, strict=True))

    @classmethod
    def clip_gradients(cls, side: Embeddings, scale: float) -> tuple[Rows, Rows]:
        """Gradients of the batch-sum CLIP loss at the images and at the texts: half of each direction's."""
        image_1, text_1 = cls.pulls(side.image_BD, side.text_BD, scale)
        text_2, image_2 = cls.pulls(side.text_BD, side.image_BD, scale)
        halves = [
            [[(x + y) / 2 for x, y in zip(first, second, strict=True)] for first, second in zip(a, b, strict=True)]
            for a, b in ((image_1, image_2), (text_1, text_2))
        ]
        return halves[0], halves[1]

    @classmethod
    def gd_released(cls, student: Embeddings, teacher: Embeddings, scale: float, teacher_scale: float) -> float:
        """Logits divided by the scale; four separate errors, each over B·D numbers, of gradients divided by B."""
        num_pairs, width = student.image_BD.shape
        total = 0.0
        for anchors_of in BOTH_DIRECTIONS:
            ours = cls.pulls(*anchors_of(student), 1 / scale)
            theirs = cls.pulls(*anchors_of(teacher), 1 / teacher_scale)
            total += sum(cls.squared_distance(x, y) for x, y in zip(ours, theirs, strict=True))
        return total / num_pairs**2 / width

    @classmethod
    def icl(cls, student: Embeddings, teacher: Embeddings, scale: float, _teacher_scale: object = None) -> float:
        image_to_text = cls.info_nce(student.image_BD, teacher.text_BD, scale)
        return (image_to_text + cls.info_nce(student.text_BD, teacher.image_BD, scale)) / 2

    @classmethod
    def affinity(cls, student: Embeddings, teacher: Embeddings, scale: float, teacher_scale: float) -> float:
        return sum(
            cls.cross_entropy(
                cls.log_affinity(*anchors_of(teacher), teacher_scale), cls.log_affinity(*anchors_of(student), scale)
            )
            for anchors_of in BOTH_DIRECTIONS
        )

    @classmethod
    def cross_modal(cls, student: Embeddings, teacher: Embeddings, scale: float, teacher_scale: float) -> float:
        """L2 + L3: each side of the teacher's affinity replaced by the student's, one at a time."""
        images_replaced = Embeddings(student.image_BD, teacher.text_BD, student.scale)
        texts_replaced = Embeddings(teacher.image_BD, student.text_BD, student.scale)
        both = (cls.affinity(mixed, teacher, scale, teacher_scale) for mixed in (images_replaced, texts_replaced))
        return sum(both) / 2

    @classmethod
    def single_modal(
        cls, student: Embeddings, teacher: Embeddings, scale: float, teacher_scale: float, keep_diagonal: bool = True
    ) -> float:
        """L4 + L5: images among images, texts among texts."""
        return sum(
            cls.cross_entropy(
                cls.log_affinity(theirs_BD, theirs_BD, teacher_scale, keep_diagonal),
                cls.log_affinity(ours_BD, ours_BD, scale, keep_diagonal),
            )
            for ours_BD, theirs_BD in ((student.image_BD, teacher.image_BD), (student.text_BD, teacher.text_BD))
        )

    @classmethod
    def dark(
        cls, student: Embeddings, teacher: Embeddings, scale: float, teacher_scale: float, beta: float = 2.0
    ) -> float:
        """Cross-entropies, the mean of both directions; terms of unmatched pairs are weighted by beta."""
        total = 0.0
        for anchors_of in BOTH_DIRECTIONS:
            target = cls.log_affinity(*anchors_of(teacher), teacher_scale)
            ours = cls.log_affinity(*anchors_of(student), scale)
            for k, (t, o) in enumerate(zip(target, ours, strict=True)):
                total -= sum((1 if k == b else beta) * math.exp(t[b]) * o[b] for b in range(len(ours)))
        return total / 2 / len(student.image_BD)

    @classmethod
    def vrd(cls, student: Embeddings, teacher: Embeddings, scale: float, _teacher_scale: object = None) -> float:
        """The four logit matrices of the released code, each modality with student and with teacher anchors."""
        total = 0.0
        for anchors, others in ((student, teacher), (teacher, student)):
            image = cls.log_affinity(anchors.image_BD, others.image_BD, scale)
            text = cls.log_affinity(anchors.text_BD, others.text_BD, scale)
            matched = sum(-table[k][k] for table in (image, text) for k in range(len(image))) / len(image)
            total += (matched + cls.kl(text, image)) / 2
        return total

    @classmethod
    def xrd(cls, student: Embeddings, teacher: Embeddings, scale: float, _teacher_scale: object = None) -> float:
        """Teacher images with student captions against teacher captions with student images, and the reverse."""
        teachers = [cls.log_affinity(*pair, scale) for pair in zip(both(teacher), reversed(both(student)), strict=True)]
        students = [cls.log_affinity(*pair, scale) for pair in zip(both(student), reversed(both(teacher)), strict=True)]
        return sum(cls.kl(one, other) + cls.kl(other, one) for one, other in (teachers, students)) / 4


def both(side: Embeddings) -> tuple[Tensor, Tensor]:
    """The images and the captions."""
    return side.image_BD, side.text_BD


BOTH_DIRECTIONS: tuple[Callable[[Embeddings], tuple[Tensor, Tensor]], ...] = (
    lambda side: (side.image_BD, side.text_BD),
    lambda side: (side.text_BD, side.image_BD),
)


@pytest.fixture(scope="session")
def brute_force() -> type[BruteForce]:
    return BruteForce
