"""Embeddings of all images and captions of an evaluation set, by several models at once and by slices over ranks.

Shape letters: N images, M captions, K classes, D width."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.data.dataset import ZeroShotTask
from workbench.data.evaluation_set import EvaluationSet
from workbench.embeddings import InputSpec
from workbench.engine.distributed import ALONE, Ranks
from workbench.evaluation.zero_shot import build_classifier
from workbench.models.clip import Clip
from workbench.models.precision import autocast
from workbench.models.teacher import Teacher
from workbench.progress import phase

CHUNK = 256  # images or captions in one forward


@dataclass(frozen=True)
class Encoder:
    """The parts of a model that evaluation needs. Embeddings of a student are raw, of a teacher at unit length."""

    input_spec: InputSpec
    encode_image: Callable[[Tensor], Tensor]
    encode_text: Callable[[Tensor], Tensor]
    scale: Tensor
    width: int

    @staticmethod
    def of_student(student: Clip, precision: str) -> "Encoder":
        """The student's towers in the precision that they train in; its raw embeddings are float32 in either case."""

        def in_precision(encode: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
            def encoded(inputs: Tensor) -> Tensor:
                with autocast(inputs.device, precision):
                    return encode(inputs)

            return encoded

        image, text = in_precision(student.encode_image), in_precision(student.encode_text)
        return Encoder(student.input_spec, image, text, student.scale, student.width)

    @staticmethod
    def of_teacher(teacher: Teacher) -> "Encoder":
        return Encoder(teacher.input_spec, teacher.embed_image, teacher.embed_text, teacher.scale, teacher.width)


@dataclass(frozen=True)
class Encoded:
    """The embeddings of all images and all captions, and the scale."""

    image_ND: Tensor
    text_MD: Tensor
    scale: Tensor


Joined = Callable[[Sequence[Tensor]], Tensor]  # of several encoders' embeddings, Teacher.joined


def only(parts: Sequence[Tensor]) -> Tensor:
    """The embeddings of a single encoder."""
    (own_ND,) = parts
    return own_ND


class SetEncoding:
    """Encodes the images, captions and class prompts of one evaluation set.

    Several ranks each encode a slice, and all of them get the whole. A slice is a number of whole chunks: forwards then
    have the shapes that they have in one process, and embeddings are the same, bit for bit. With ``ALONE`` a rank
    encodes all by itself.

    Args:
        name: of the set, for progress, such as "validation".
    """

    def __init__(self, pairs: EvaluationSet, device: torch.device, name: str = "") -> None:
        self._pairs = pairs
        self._device = device
        self._name = name
        self._tokens: dict[str, Tensor] = {}  # of all captions, by the tokenizer's identity

    def whole(self, encoders: Sequence[Encoder], who: str = "", ranks: Ranks = ALONE) -> list[Encoded]:
        """All images and captions by each of the encoders, whose input specs are equal."""
        spec = encoders[0].input_spec
        if spec.tokenizer_id not in self._tokens:
            self._tokens[spec.tokenizer_id] = spec.tokenize(self._pairs.captions)
        images = self.images(encoders, who, ranks)
        texts = self._texts(encoders, self._tokens[spec.tokenizer_id], f"captions{who}", ranks)
        return [
            Encoded(image_ND, text_MD, encoder.scale.detach())
            for image_ND, text_MD, encoder in zip(images, texts, encoders, strict=True)
        ]

    def images(self, encoders: Sequence[Encoder], who: str = "", ranks: Ranks = ALONE) -> list[Tensor]:
        """All images, [N, D], by each of the encoders; every image is decoded once, by one rank."""
        spec, own = encoders[0].input_spec, ranks.rows(self._pairs.num_images, CHUNK)
        chunks = self._pairs.image_chunks(spec.image_size, CHUNK, spec.resizing, own)
        encode = [(encoder.encode_image, encoder.width) for encoder in encoders]
        return self._in_chunks(encode, chunks, f"images{who}", self._pairs.num_images, ranks)

    def classifier(
        self, encoders: Sequence[Encoder], task: ZeroShotTask, joined: Joined, ranks: Ranks = ALONE
    ) -> Tensor:
        """The zero-shot classifier of a model, [K, D], from the embeddings of the task's prompts.

        Args:
            encoders: of the model, or of the members of a group of teachers, whose embeddings are ``joined``.
        """

        def encode_prompts(prompts: Sequence[str]) -> Tensor:
            return joined(
                [
                    self._texts([encoder], encoder.input_spec.tokenize(prompts), "class prompts", ranks)[0]
                    for encoder in encoders
                ]
            )

        return build_classifier(encode_prompts, task.classes, task.templates, verbatim=task.verbatim)

    def _texts(self, encoders: Sequence[Encoder], tokens_ML: Tensor, what: str, ranks: Ranks) -> list[Tensor]:
        encode = [(encoder.encode_text, encoder.width) for encoder in encoders]
        own_ML = tokens_ML[ranks.rows(len(tokens_ML), CHUNK)]
        # An empty tensor would still be split into one empty chunk.
        chunks = torch.split(own_ML, CHUNK) if len(own_ML) else ()
        return self._in_chunks(encode, chunks, what, len(tokens_ML), ranks)

    def _in_chunks(
        self,
        encoders: Sequence[tuple[Callable[[Tensor], Tensor], int]],
        chunks: Iterable[Tensor],
        what: str,
        total: int,
        ranks: Ranks,
    ) -> list[Tensor]:
        """This rank's chunks encoded by each function, whose width is given, and the rows of all ranks; with progress.

        Args:
            total: rows of all ranks.
        """
        rows: list[list[Tensor]] = [[torch.empty(0, width, device=self._device)] for _, width in encoders]
        own = ranks.rows(total, CHUNK)
        with phase(" ".join(filter(None, ("encoding", self._name, what))), own.stop - own.start) as shown:
            for chunk in chunks:
                inputs = chunk.to(self._device)
                for encoded, (encode, _) in zip(rows, encoders, strict=True):
                    encoded.append(encode(inputs))
                shown.advance(len(chunk))
        return [ranks.gather(torch.cat(encoded), total, CHUNK) for encoded in rows]
