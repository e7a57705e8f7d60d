"""Types that data, models, losses and evaluation share: input specs, batches and embeddings.

Shape letters, everywhere in this project:
    B  pairs in a batch          D  embedding width           L  tokens of a text
    N  items (images)            M  captions                  K  classes
    C  color channels            H, W  pixels                 T  tokens of a tower
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MAX_LOG_SCALE = math.log(100)  # CLIP clamps every learned scale to 1 ≤ 1/τ ≤ 100
SIGMOID_SCALE, SIGMOID_BIAS = 10.0, -10.0  # SigLIP's initial values of its scale and bias


class Resizing(NamedTuple):
    """How an image becomes a square for evaluation, in the words of open_clip's pretrained tags.

    Attributes:
        mode: "shortest" resizes the shorter side and crops the center; "squash" resizes both sides, as SigLIP does.
        interpolation: "bicubic" or "bilinear", antialiased.
    """

    mode: str = "shortest"
    interpolation: str = "bicubic"


CLIPS_RESIZING = Resizing()


@dataclass(frozen=True)
class InputSpec:
    """Input spec of a model: square images of ``image_size`` pixels, and a tokenizer."""

    image_size: int
    tokenize: Callable[[Sequence[str]], Tensor]  # B captions -> int64 [B, L]
    tokenizer_id: str  # equal ids give equal tokens, so that student and teacher can share them
    resizing: Resizing = CLIPS_RESIZING  # for evaluation; training crops are resized bicubically, as in open_clip


class BadImage(NamedTuple):
    """An unusable image, for which a batch has another pair: the category, and a message that names the image."""

    reason: str
    message: str


class ModelInputs(NamedTuple):
    """What a model embeds of B pairs: images at its resolution, and captions in its tokens."""

    image_BCHW: Tensor  # uint8
    text_BL: Tensor  # int64


MaskKey = tuple[int, float, int]  # patches of an image, share that is dropped, and run seed


@dataclass(frozen=True)
class Batch:
    """One batch, in the resolution and tokens of the student and of each teacher (the same tensors if these agree).

    Images are uint8 in [0, 255], normalized by each model. Texts are int64 token ids.
    """

    keys: tuple[str, ...]
    student_image_BCHW: Tensor
    student_text_BL: Tensor
    teachers: tuple[ModelInputs, ...] = ()  # of each teacher that runs live
    indices: tuple[int, ...] = ()  # of the pairs in their dataset
    views: tuple[int, ...] = ()  # the view of each pair; equal (key, view) have equal images and captions
    masks: Mapping[MaskKey, Tensor] = field(default_factory=dict)  # int64 [B, K]: patches that are kept, by mask
    kept_BK: Tensor | None = None  # int64: image patches that the student keeps; None for all
    replaced: tuple[BadImage, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    def to(self, device: torch.device) -> Batch:
        """The batch on ``device``; shared tensors stay shared."""
        return self.mapped(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Batch:
        """The batch in pinned memory, which a GPU copies asynchronously; shared tensors stay shared."""
        return self.mapped(lambda tensor: tensor.pin_memory())

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with each tensor replaced by ``function`` of it, called once for a tensor that models share."""
        done: dict[int, Tensor] = {}  # by id

        def of(tensor: Tensor) -> Tensor:
            if id(tensor) not in done:
                done[id(tensor)] = function(tensor)
            return done[id(tensor)]

        return replace(
            self,
            student_image_BCHW=of(self.student_image_BCHW),
            student_text_BL=of(self.student_text_BL),
            teachers=tuple(ModelInputs(of(inputs.image_BCHW), of(inputs.text_BL)) for inputs in self.teachers),
            masks={key: of(kept_BK) for key, kept_BK in self.masks.items()},
            kept_BK=None if self.kept_BK is None else of(self.kept_BK),
        )


def onto(device: torch.device, tensor: Tensor) -> Tensor:
    """The tensor on the device; a copy to a GPU starts from pinned memory, for which alone Python does not wait."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


Modality = Literal["image", "text"]


class FeatureKey(NamedTuple):
    """An intermediate feature of an image tower: block number (negative from the end), and map, tokens or pooled."""

    block: int
    form: str


class GroupMember(NamedTuple):
    """One teacher of several whose embeddings are concatenated.

    Attributes:
        columns: of the concatenation, which are its own embeddings times √share.
        share: of the squared length of a row.
        weight: in the mean; the weights of all members sum to 1.
        scale: 1/τ of its logits, 0-d.
    """

    columns: slice
    share: float
    weight: float
    scale: Tensor


@dataclass(frozen=True)
class Embeddings:
    """A model's embeddings of B pairs: unit-length float rows, and its positive logit scale (1/temperature, 0-d).

    ``bias`` is that of the logits, 0-d, of a student with the sigmoid loss; None for others. ``members`` are the
    teachers of a group whose softmaxes are averaged; empty for others.
    """

    image_BD: Tensor
    text_BD: Tensor
    scale: Tensor
    bias: Tensor | None = None
    members: tuple[GroupMember, ...] = ()

    @classmethod
    def from_raw(cls, image_BD: Tensor, text_BD: Tensor, scale: Tensor, bias: Tensor | None = None) -> Embeddings:
        """Normalizes rows of any length."""
        import torch.nn.functional as F

        return cls(F.normalize(image_BD, dim=1), F.normalize(text_BD, dim=1), scale, bias)

    @property
    def width(self) -> int:
        return self.image_BD.shape[1]

    def __len__(self) -> int:
        return self.image_BD.shape[0]
