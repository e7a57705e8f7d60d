"""The splits of the emoji samples, drawn picture by picture."""

from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import sha256

from workbench.config.nearest import unknown
from workbench.data.samples.emoji.artwork import EmojiFont, on_background
from workbench.data.samples.emoji.captions import captions_by_sequence
from workbench.data.samples.emoji.concepts import concept_of, hexadecimal, one_each
from workbench.data.samples.emoji.splits import split_of
from workbench.data.samples.picture import Picture
from workbench.randomness import derive_seed

SPLITS = ("train", "validation", "test", "teacher")


def drawable(font: EmojiFont) -> tuple[dict[str, tuple[str, ...]], Counter[str]]:
    """The captions of every emoji that the font can draw, and how many others there are, by reason."""
    captions, left_out = {}, Counter[str]()
    for sequence, names in captions_by_sequence():
        if not font.joins(sequence):
            left_out["falls apart into several glyphs"] += 1
        elif not font.has_artwork(sequence):
            left_out["no glyph in the font"] += 1
        else:
            captions[sequence] = names
    return captions, left_out


def select(sequences: Iterable[str], split: str) -> list[str]:
    """The emoji of a split, shuffled once and for all, so that the first N are a fair sample of it."""
    inside = [s for s in sequences if split_of(s) == ("train" if split == "teacher" else split)]
    if split != "teacher":
        inside = list(one_each(inside).values())
    return sorted(inside, key=lambda s: derive_seed(0, "emoji order", hexadecimal(s)))


def draw(split: str) -> Iterator[Picture]:
    """The pictures of a split.

    `train`, `validation` and `test` hold one picture a concept, the neutral form if there is one; `teacher`
    holds those of `train` and their skin tones, genders and hair as well. Held-out pictures have their name
    alone for a caption, training pictures have aliases too. A record holds the captions, the code points, the
    concept and the group: the name, or that of an earlier picture with the same artwork (Norway and Bouvet
    Island).

    Raises:
        ValueError: there is no such split, or the font, its layout or the package with the names is missing.
    """
    if split not in SPLITS:
        raise unknown("emoji split", split, SPLITS)
    font = EmojiFont()
    captions, _ = drawable(font)
    groups: dict[bytes, str] = {}
    for sequence in select(captions, split):
        glyph, key, name = font.glyph(sequence), hexadecimal(sequence), captions[sequence][0]
        record = {
            "captions": list(captions[sequence] if split in ("train", "teacher") else captions[sequence][:1]),
            "group": groups.setdefault(sha256(glyph.tobytes()).digest(), name),
            "concept": concept_of(sequence),
            "codepoints": " ".join(f"U+{ord(character):04X}" for character in sequence),
        }
        yield Picture(key, on_background(glyph, key), record)
