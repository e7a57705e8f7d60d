"""Tokenizers: a word-level one for the small models, and open_clip's byte-pair tokenizer for the real sizes."""

import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from workbench.errors import unknown
from workbench.resources import find_resource

PAD = 0
_WORD = re.compile(r"\w+")


class Tokenizer(Protocol):
    """Maps captions to rows of ids, padded with 0; the end token is the largest id, as CLIP's text pooling expects."""

    @property
    def vocab_size(self) -> int:
        """The number of ids."""

    @property
    def context_length(self) -> int:
        """Ids per row."""

    def __call__(self, captions: Sequence[str]) -> Tensor:
        """B captions -> int64 [B, context_length]; long captions are truncated, the end token is kept."""

    @property
    def spec(self) -> dict[str, Any]:
        """JSON-compatible data from which :func:`make_tokenizer` creates an equal tokenizer."""


@dataclass(frozen=True)
class WordTokenizer:
    """Lower-case words from a list; other words are hashed into a few buckets.

    The embedding table stays small (a byte-pair vocabulary of 49,408 would be forty times larger than a model of width
    64), and every caption has tokens.
    """

    words: tuple[str, ...]
    context_length: int
    num_buckets: int = 64
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ids", {word: 1 + index for index, word in enumerate(self.words)})

    @property
    def vocab_size(self) -> int:
        return 1 + len(self.words) + self.num_buckets + 1

    @property
    def spec(self) -> dict[str, Any]:
        return {
            "kind": "words",
            "context_length": self.context_length,
            "num_buckets": self.num_buckets,
            "words": list(self.words),
        }

    def _id(self, word: str) -> int:
        known = self._ids.get(word)
        if known is not None:
            return known
        # Not Python's hash(), which differs between processes.
        return 1 + len(self.words) + zlib.crc32(word.encode()) % self.num_buckets

    def __call__(self, captions: Sequence[str]) -> Tensor:
        rows = torch.full((len(captions), self.context_length), PAD, dtype=torch.int64)
        end = self.vocab_size - 1
        for row, caption in zip(rows, captions, strict=True):
            words = _WORD.findall(caption.lower())[: self.context_length - 1]
            ids = [*(self._id(word) for word in words), end]
            row[: len(ids)] = torch.tensor(ids)
        return rows


@dataclass(frozen=True)
class BytePairTokenizer:
    """open_clip's byte-pair tokenizer, with which CLIP was trained."""

    context_length: int = 77
    vocab_size: int = 49408

    @property
    def spec(self) -> dict[str, Any]:
        return {"kind": "bpe", "context_length": self.context_length}

    def __call__(self, captions: Sequence[str]) -> Tensor:
        tokens: Tensor = self._tokenize(list(captions), context_length=self.context_length)
        return tokens

    @cached_property
    def _tokenize(self) -> Any:
        # Imported and built on first use: it reads a vocabulary of 49,408 entries.
        from open_clip.tokenizer import SimpleTokenizer

        return SimpleTokenizer()


def make_tokenizer(spec: dict[str, Any]) -> Tokenizer:
    """The tokenizer described by a model folder's ``tokenizer.json``.

    Raises:
        ValueError: an unknown kind of tokenizer.
        KeyError: a missing setting.
    """
    kind = spec.get("kind")
    if kind == "words":
        return WordTokenizer(tuple(spec["words"]), spec["context_length"], spec["num_buckets"])
    if kind == "bpe":
        return BytePairTokenizer(spec["context_length"])
    raise unknown("kind of tokenizer", str(kind), ["words", "bpe"])


def named_tokenizer(name: str, context_length: int) -> Tokenizer:
    """``words:scenes``, ``words:emoji`` (word lists of the sample datasets) or ``bpe``."""
    if name == "bpe":
        return BytePairTokenizer(context_length)
    kind, _, sample = name.partition(":")
    path = find_resource(f"data_samples/{sample}/words.txt") if kind == "words" and sample else None
    if path is None:
        raise unknown("tokenizer", name, ["words:scenes", "words:emoji", "bpe"])
    return WordTokenizer(tuple(path.read_text(encoding="utf-8").split()), context_length)


RULES = {
    "words": (
        "words are the matches of the regular expression \\w+ in the lower-case caption, the first context_length - 1; "
        "an id is 1 + the word's place in the list, counted from 0, or for any other word "
        "1 + len(words) + crc32(its UTF-8) % num_buckets; the end id len(words) + num_buckets + 1 follows, "
        "then 0 up to context_length"
    ),
    "bpe": "CLIP's byte pairs: open_clip.tokenizer.SimpleTokenizer(context_length=context_length)",
}


def tokenizer_document(tokenizer: Tokenizer) -> str:
    """The tokenizer's spec as JSON, and the rule in words, for those who tokenize without the workbench."""
    return json.dumps(tokenizer.spec | {"rule": RULES[tokenizer.spec["kind"]]}) + "\n"
