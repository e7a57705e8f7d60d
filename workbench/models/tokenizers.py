"""Tokenizers: a word-level one for the small models, open_clip's byte pairs, and those of Hugging Face."""

import json
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from workbench.errors import reason, unknown
from workbench.models.tokenizer_files import TOKENIZER, TOKENIZER_CONFIG, refuse_sentencepiece, tokenizer_options
from workbench.resources import find_resource

PAD = 0
_WORD = re.compile(r"\w+")


class Tokenizer(Protocol):
    """Maps captions to rows of ids.

    CLIP's kind pads with 0, and its end token is the largest id, as CLIP's text pooling expects.
    """

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
        """JSON-compatible data, equal for equal tokenizers, with its ``kind``."""


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


@dataclass(frozen=True)
class HuggingFaceTokenizer:
    """A tokenizer of Hugging Face, used as by open_clip's HFTokenizer: captions cleaned, rows truncated and padded.

    SigLIP's models have one. Its library ``tokenizers`` is that of transformers' fast tokenizers.

    Args:
        content: of ``tokenizer.json``.
        settings: of ``tokenizer_config.json``, which names the pad token.
        context_length: ids per row.
        vocab_size: rows of the model's token table, which may have a few more or less than the tokenizer has tokens;
            0 for as many.
        clean: open_clip's cleaning: "whitespace", "lower" or "canonicalize".
        strip_sep_token: replace the separator token by 0.

    Raises:
        ValueError: the files cannot be read, have no pad token, or have another vocabulary than the model.
    """

    content: bytes = field(repr=False)
    settings: bytes = field(repr=False)
    context_length: int
    vocab_size: int
    clean: str = "whitespace"
    strip_sep_token: bool = False

    def __post_init__(self) -> None:
        found = self._backend.get_vocab_size()
        if not self.vocab_size:
            object.__setattr__(self, "vocab_size", found)
        # mT5's has 100 tokens more than SigLIP's table has rows, BERT's 5 % fewer than CLIPA's.
        if not 0.9 * self.vocab_size <= found <= 1.01 * self.vocab_size:
            raise ValueError(
                f"its {TOKENIZER} has {found:,} tokens, but the model {self.vocab_size:,}: it is another model's"
            )

    @cached_property
    def spec(self) -> dict[str, Any]:
        return {
            "kind": "huggingface",
            "context_length": self.context_length,
            "vocab_size": self.vocab_size,
            "clean": self.clean,
            "strip_sep_token": self.strip_sep_token,
            "sha256": sha256(self.content + self.settings).hexdigest(),
        }

    def __call__(self, captions: Sequence[str]) -> Tensor:
        cleaned = [self._clean(caption) for caption in captions]
        ids = [encoding.ids for encoding in self._backend.encode_batch(cleaned)]
        rows = torch.tensor(ids, dtype=torch.int64).reshape(len(captions), self.context_length)
        if rows.numel() and rows.max() >= self.vocab_size:
            raise ValueError(f"{TOKENIZER} has token {int(rows.max())}, beyond the model's {self.vocab_size:,}")
        if self.strip_sep_token:
            rows = rows.masked_fill(rows == self._special_id("sep_token"), PAD)
        return rows

    @cached_property
    def _settings(self) -> dict[str, Any]:
        settings = json.loads(self.settings)
        return settings if isinstance(settings, dict) else {}

    @cached_property
    def _clean(self) -> Any:
        from open_clip.tokenizer import get_clean_fn

        return get_clean_fn(self.clean)

    @cached_property
    def _backend(self) -> Any:
        # Its threads would not survive the fork of a data worker; it then prints a warning in every one of them.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        from tokenizers import Tokenizer as Backend

        backend = Backend.from_str(self.content.decode())
        side = {name: self._settings.get(f"{name}_side", "right") for name in ("padding", "truncation")}
        backend.enable_truncation(self.context_length, direction=side["truncation"])
        # As transformers does: without tokenizer_config.json, the padding that tokenizer.json itself states.
        own = None if "pad_token" in self._settings else backend.padding
        pad = own["pad_id"] if own else self._special_id("pad_token", backend)
        backend.enable_padding(length=self.context_length, pad_id=pad, direction=side["padding"])
        return backend

    def _special_id(self, name: str, backend: Any = None) -> int:
        token = self._settings.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        found = (backend or self._backend).token_to_id(token) if isinstance(token, str) else None
        if found is None:
            raise ValueError(f"{TOKENIZER_CONFIG} names no {name} that {TOKENIZER} has")
        return int(found)


def hugging_face_tokenizer(path: Path, text: Mapping[str, Any]) -> HuggingFaceTokenizer:
    """The tokenizer of a ``tokenizer.json``, as open_clip uses it for a ``text_cfg``.

    Raises:
        ValueError: a file that cannot be read, or another model's tokenizer.
    """
    settings = path.with_name(TOKENIZER_CONFIG)
    try:
        return HuggingFaceTokenizer(
            path.read_bytes(),
            settings.read_bytes() if settings.is_file() else b"{}",
            context_length=text.get("context_length", 77),
            vocab_size=text.get("vocab_size", 49408),
            **tokenizer_options(text),
        )
    except Exception as error:  # the library raises bare exceptions for a damaged file
        raise ValueError(f"cannot use the tokenizer {path}: {reason(error)}") from None


def make_tokenizer(spec: dict[str, Any]) -> Tokenizer:
    """The tokenizer described by a model folder's ``tokenizer.json`` of the workbench.

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
        refuse_sentencepiece(Path(name))
        raise unknown("tokenizer", name, ["words:scenes", "words:emoji", "bpe", f"PATH of a {TOKENIZER}"])
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


def tokenizer_files(tokenizer: Tokenizer, *, with_rule: bool = False) -> dict[str, bytes]:
    """A model folder's tokenizer files by name: the spec as JSON, or Hugging Face's own two files.

    Args:
        with_rule: add the rule in words, for those who tokenize without the workbench.
    """
    if isinstance(tokenizer, HuggingFaceTokenizer):
        return {TOKENIZER: tokenizer.content, TOKENIZER_CONFIG: tokenizer.settings}
    rule = {"rule": RULES[tokenizer.spec["kind"]]} if with_rule else {}
    return {TOKENIZER: (json.dumps(tokenizer.spec | rule) + "\n").encode()}
