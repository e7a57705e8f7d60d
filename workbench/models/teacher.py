"""The teacher: a frozen model. Several of them are a :class:`~workbench.models.teacher_group.TeacherGroup`."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.embeddings import Embeddings, FeatureKey, GroupMember, InputSpec
from workbench.models.clip import Clip, count_parameters
from workbench.models.image_tower import collected
from workbench.models.precision import DTYPES, autocast, hold_weights
from workbench.models.weights import weights_sha256


class Teacher:
    """A frozen CLIP. It is not a module: it has no training mode, and an optimizer cannot find its parameters.

    Args:
        model: its weights are not copied, and held in ``precision`` from now on; it must not be used elsewhere.
        chunk_size: rows per forward; the last chunk is padded, so that every forward has the same shape.
        precision: "bf16" and "fp16" run the towers under autocast; outputs are float32 in any case.
    """

    def __init__(self, model: Clip, chunk_size: int = 256, precision: str = "fp32") -> None:
        self._model = model.eval().requires_grad_(False)
        # Of the weights as they were loaded, whatever the precision: caches and checkpoints name a teacher by it.
        self._sha256 = weights_sha256(model.towers) if precision in DTYPES else ""
        hold_weights(model.towers, precision)
        self.chunk_size = chunk_size
        self.precision = precision

    @property
    def members(self) -> "tuple[Teacher, ...]":
        """The models that run: here this one alone."""
        return (self,)

    @property
    def averaged(self) -> tuple[GroupMember, ...]:
        """The members whose softmaxes are averaged: of a single teacher none."""
        return ()

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """Embeddings by each of :attr:`members`, as one tensor [N, D]."""
        (own_ND,) = parts
        return own_ND

    @property
    def width(self) -> int:
        return self._model.width

    @property
    def num_parameters(self) -> dict[str, int]:
        return count_parameters(self._model)

    @property
    def block_widths(self) -> tuple[int, ...]:
        """Channels of its image tower's blocks (:attr:`Clip.block_widths`)."""
        return self._model.block_widths

    @property
    def input_spec(self) -> InputSpec:
        return self._model.input_spec

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and std of its image normalization, per color channel, in [0, 1]."""
        return self._model.mean, self._model.std

    @property
    def scale(self) -> Tensor:
        return self._model.scale

    @property
    def architecture(self) -> dict[str, Any]:
        """The open_clip model config."""
        return self._model.config

    def fingerprint(self) -> str:
        """SHA-256 of the weights as they were loaded, hex."""
        return self._sha256 or weights_sha256(self._model.towers)

    def facts(self) -> dict[str, Any]:
        """What checkpoints record of a teacher: the SHA-256 of its weights, and its scale 1/τ."""
        return {"weights_sha256": self.fingerprint(), "scale": float(self.scale)}

    def in_chunks_of(self, chunk_size: int) -> "Teacher":
        """The same model with another chunk size, for small inputs where the last bits do not matter."""
        other = copy.copy(self)  # not a new teacher, which would take the rounded weights for the loaded ones
        other.chunk_size = chunk_size
        return other

    def tokenize(self, captions: Sequence[str]) -> Tensor:
        """M captions -> token ids [M, L] in the teacher's vocabulary."""
        return self._model.tokenizer(captions)

    def embed(self, image_BCHW: Tensor, text_BL: Tensor) -> Embeddings:
        """Unit-length embeddings of B pairs, without gradient."""
        return Embeddings(self.embed_image(image_BCHW), self.embed_text(text_BL), self.scale)

    def embed_with_features(
        self, image_BCHW: Tensor, text_BL: Tensor, keys: Sequence[FeatureKey]
    ) -> tuple[Embeddings, dict[FeatureKey, Tensor]]:
        """The embeddings of :meth:`embed`, bitwise, and image-tower features of the B images from the same forward.

        Features are float32, without gradient, and have B rows (:mod:`workbench.models.image_tower`).
        """
        chunks: dict[FeatureKey, list[Tensor]] = {key: [] for key in keys}

        def encode(chunk_BCHW: Tensor) -> Tensor:
            with collected(self._model.towers.visual, keys) as features:
                raw = self._model.encode_image(chunk_BCHW)
            for key, feature in features.items():
                chunks[key].append(feature)
            return raw

        image_BD = self._in_chunks(encode, image_BCHW)
        features = {key: torch.cat(some)[: len(image_BCHW)] for key, some in chunks.items()}  # the padding comes last
        return Embeddings(image_BD, self.embed_text(text_BL), self.scale), features

    def embed_image(self, image_NCHW: Tensor) -> Tensor:
        """uint8 images -> unit-length embeddings [N, D]."""
        return self._in_chunks(self._model.encode_image, image_NCHW)

    def embed_text(self, text_ML: Tensor) -> Tensor:
        """Token ids -> unit-length embeddings [M, D]."""
        return self._in_chunks(self._model.encode_text, text_ML)

    def is_position_independent(self, image_NCHW: Tensor, text_NL: Tensor) -> bool:
        """Whether a row's embedding is bitwise independent of its position in a forward.

        Tested on N ≤ ``chunk_size`` rows. All forwards have the same shape, yet a library that splits few rows among
        several threads may use another kernel for a short part: MKL does so for 5 to 11 rows and two threads.
        """

        def moves(embed: Callable[[Tensor], Tensor], inputs: Tensor) -> bool:
            return torch.equal(embed(inputs.roll(1, 0)), embed(inputs).roll(1, 0))

        return moves(self.embed_image, image_NCHW) and moves(self.embed_text, text_NL)

    @torch.no_grad()
    def _in_chunks(self, encode: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        chunks = []
        for chunk in torch.split(inputs, self.chunk_size):
            # Padded to a fixed shape: kernels are chosen by shape and round differently. Without padding, a row's last
            # bits would depend on the number of rows, and cached rows would differ from live ones.
            missing = self.chunk_size - len(chunk)
            padded = torch.cat([chunk, chunk[:1].expand(missing, *chunk.shape[1:])]) if missing else chunk
            with autocast(inputs.device, self.precision):
                raw = encode(padded)[: len(chunk)]
            chunks.append(F.normalize(raw.float(), dim=1))
        return torch.cat(chunks)
