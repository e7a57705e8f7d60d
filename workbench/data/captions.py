"""Reads captions from .txt and JSON, and measures a dataset's captions: duplicates, false negatives, length.

Shape letters: N images · M captions.
"""

import json
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from workbench.data.dataset import Dataset, spread
from workbench.data.unusable import BadImageCount
from workbench.progress import with_bar

if TYPE_CHECKING:
    from torch import Tensor


LeftOut = tuple[str, str]  # category and message of an unusable caption
_LINE_END = re.compile(r"[\r\n]+")


class Texts(NamedTuple):
    """The text of one sample: ``key.txt`` and ``key.json``."""

    captions: tuple[str, ...]  # empty if none is usable
    group: str | None = None
    label: str | None = None
    is_txt: bool = False  # the only caption is the content of a .txt, in which each line may be a separate caption
    left_out: tuple[LeftOut, ...] = ()  # why the others are unusable


def read_texts(txt: bytes | None, document: bytes | None) -> Texts:
    """Captions from JSON ``captions``, else the .txt, else JSON ``caption``; ``group`` and ``class`` from JSON.

    Bytes that are not UTF-8 become U+FFFD. Captions that are blank, null or not strings are left out, and so are
    samples with unusable JSON.
    """
    try:
        record = _read_record(document) if document is not None else {}
        group, label = _name(record, "group"), _name(record, "class")
    except ValueError as error:
        return Texts((), left_out=(("unusable JSON", str(error)),))
    listed = record.get("captions")
    is_txt = listed is None and txt is not None
    if listed is None:
        listed = [_decoded(txt)] if txt is not None else [record["caption"]] if "caption" in record else []
    if not isinstance(listed, list):
        return Texts((), group, label, left_out=(("not a list", f'"captions" is {_quoted(listed)}'),))
    kept, left_out = usable_captions(listed)
    if not listed:
        left_out = (("missing", 'there is no .txt, and no "caption" in a .json'),)
    return Texts(kept, group, label, is_txt, left_out)


def read_synthetic(document: bytes) -> tuple[str, ...]:
    """The usable captions of a ``.syn.json``: DataCompDR's ``{"syn_text": [...]}``, or a list; empty if unreadable."""
    try:
        content = json.loads(_decoded(document))
    except (ValueError, RecursionError):
        return ()
    listed = content.get("syn_text") if isinstance(content, dict) else content
    return usable_captions(listed)[0] if isinstance(listed, list) else ()


def usable_captions(listed: list[Any]) -> tuple[tuple[str, ...], tuple[LeftOut, ...]]:
    """Splits a list into usable captions, stripped, and the reasons for the others."""
    kept, left_out = [], []
    for caption in listed:
        text = cleaned(caption) if isinstance(caption, str) else ""
        if text:
            kept.append(text)
        elif isinstance(caption, str):
            left_out.append(("blank", "the caption is blank"))
        else:
            left_out.append(("null" if caption is None else "not text", f"the caption is {_quoted(caption)}"))
    return tuple(kept), tuple(left_out)


def tallied_captions(listed: list[Any], tally: BadImageCount, where: str, missing: str = "") -> tuple[str, ...]:
    """The usable captions of an image, all of them counted; ``missing`` is why there are none."""
    kept, left_out = usable_captions(listed)
    if missing:
        left_out = (("missing", missing),)
    tally.add(len(kept) + len(left_out), [(reason, f"{message}, {where}") for reason, message in left_out])
    return kept


def lines_of(text: str) -> Iterator[str]:
    """The stripped lines that are not blank."""
    return (line.strip() for line in _LINE_END.split(text) if line.strip())


def has_line_break(text: str) -> bool:
    return _LINE_END.search(text) is not None


def cleaned(text: str) -> str:
    """Stripped, with lone surrogates (which JSON escapes allow) replaced."""
    return text.encode("utf-8", errors="replace").decode("utf-8").strip()


def _read_record(document: bytes) -> dict[str, Any]:
    try:
        record = json.loads(_decoded(document))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the JSON cannot be read ({error})") from error
    if not isinstance(record, dict):
        raise ValueError('the JSON is not an object such as {"caption": "a red bus"}')
    return record


def _decoded(text: bytes) -> str:
    return text.decode("utf-8-sig", errors="replace")


def _quoted(value: Any) -> str:
    return json.dumps(value)[:40]


def _name(record: dict[str, Any], field: str) -> str | None:
    """A group or class name; numbers become text."""
    value = record.get(field)
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
        raise ValueError(f'"{field}" must be a string or a whole number (got {_quoted(value)})')
    return None if value is None else cleaned(str(value)) or None


Numbers = npt.NDArray[np.int64]
MANY_TEXTS = 200_000
BLOCK = 1000  # gallery size of retrieval
NUM_TOKENIZED = 1000
UNDECODED = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Captions:
    """The captions of a dataset as hashes: 32 bytes per caption."""

    text_M: Numbers  # hash of each caption
    owner_M: Numbers  # number of each caption's image
    group_N: Numbers  # hash of each image's group
    num_words_M: Numbers
    num_undecoded: int  # captions with bytes that were not UTF-8
    num_with_line_breaks: int
    num_synthetic: int  # synthetic captions, not among the M
    first: str  # the first caption of all

    @property
    def num_distinct(self) -> int:
        return len(np.unique(self.text_M))

    @cached_property
    def num_sharing_M(self) -> Numbers:
        """Number of images with each caption."""
        return _counts(self.text_M, self._once)

    @cached_property
    def _once(self) -> Numbers:
        """The captions without those that repeat another one of their image."""
        return np.unique(_mixed(self.text_M, self.owner_M), return_index=True)[1]

    @property
    def num_pairs_sharing(self) -> int:
        """Number of images that share a caption with another image."""
        return len(np.unique(self.owner_M[self.num_sharing_M > 1]))

    @property
    def false_negative_share(self) -> float:
        """Probability that two different images are drawn with the same caption: a false negative for the loss."""
        num_images = len(self.group_N)
        if num_images < 2:
            return 0.0
        # A batch shows one of an image's captions at random. Sum over texts of (sum of weights)^2 is the chance for two
        # draws with replacement; subtracting each image's pairing with itself leaves pairs of different images.
        weight_M = 1 / np.bincount(self.owner_M)[self.owner_M]
        of_text = np.bincount(_numbered(self.text_M), weights=weight_M)
        of_pair = np.bincount(_numbered(_mixed(self.text_M, self.owner_M)), weights=weight_M)
        return float((np.square(of_text).sum() - np.square(of_pair).sum()) / (num_images * (num_images - 1)))

    @property
    def ceiling(self) -> float:
        """Text-to-image R@1 of a perfect model in a gallery of 1,000 images.

        It can only guess among images with the same caption, and those of another group count as wrong.
        """
        # A caption's best R@1: of the images in its block with the same text, the share in its own group.
        block_M, group_M = self.owner_M // BLOCK, self.group_N[self.owner_M]
        true_M = _counts(_mixed(self.text_M, block_M), self._once)
        right_M = _counts(_mixed(self.text_M, block_M, group_M), self._once)
        return float((right_M / true_M).mean())


def captions_of(dataset: Dataset, max_images: int = 0) -> Captions:
    """Reads the captions of all images, or of a sample of ``max_images`` of them, once: 200,000 per second.

    Images of a sample are numbered within it.
    """
    is_sample = 0 < max_images < len(dataset)
    indices = spread(len(dataset), max_images) if is_sample else range(len(dataset))
    text_M, owner_M, group_N, num_words_M = (array("q") for _ in range(4))
    num_undecoded = num_with_line_breaks = num_synthetic = 0
    # Python's hash differs between processes, which is fine: only equality within this call counts.
    for number, index in enumerate(with_bar(indices, "reading captions", MANY_TEXTS)):
        text = dataset.text(index)
        group_N.append(hash(text.group))
        num_synthetic += len(text.synthetic)
        for caption in text.captions:
            text_M.append(hash(caption))
            owner_M.append(number)
            num_words_M.append(len(caption.split()))
            num_undecoded += UNDECODED in caption
            num_with_line_breaks += has_line_break(caption)
    return Captions(
        np.array(text_M),
        np.array(owner_M),
        np.array(group_N),
        np.array(num_words_M),
        num_undecoded=num_undecoded,
        num_with_line_breaks=num_with_line_breaks,
        num_synthetic=num_synthetic,
        first=dataset.text(0).captions[0],
    )


def most_shared(dataset: Dataset, captions: Captions, count: int = 3) -> list[tuple[str, int]]:
    """The most frequent captions with their number of images, which is at least 2."""
    _, first = np.unique(captions.text_M, return_index=True)
    first.sort()
    common = first[np.argsort(-captions.num_sharing_M[first], kind="stable")][:count]
    found = []
    for caption in common[captions.num_sharing_M[common] > 1]:
        owner = int(captions.owner_M[caption])
        inner = int(caption - np.searchsorted(captions.owner_M, owner))
        found.append((dataset.text(owner).captions[inner], int(captions.num_sharing_M[caption])))
    return found


def share_filling(dataset: Dataset, tokenize: Callable[[Sequence[str]], "Tensor"]) -> float:
    """Share of captions whose tokens fill a row completely, from the first captions of 1,000 images."""
    texts = [dataset.text(index).captions[0] for index in spread(len(dataset), NUM_TOKENIZED)]
    pad = tokenize([""])[0, -1]
    # SigLIP pads with its end token, which also ends a row that is full: there the token before it decides.
    ends_with_pad = tokenize([" ".join(["word"] * 1000)])[0, -1] == pad
    return float((tokenize(texts)[:, -2 if ends_with_pad else -1] != pad).double().mean())


def _mixed(*columns: Numbers) -> Numbers:
    """A 64-bit hash of each row of columns."""
    mixed = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        mixed = (mixed ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd
        mixed ^= mixed >> np.uint64(29)
    return mixed.astype(np.int64)


def _numbered(values: Numbers) -> Numbers:
    return np.unique(values, return_inverse=True)[1].reshape(-1)


def _counts(key_M: Numbers, counted: Numbers) -> Numbers:
    """For every row, the number of counted rows with the same key."""
    keys, counts = np.unique(key_M[counted], return_counts=True)
    return np.asarray(counts[np.searchsorted(keys, key_M)], np.int64)
