"""Draws the emoji samples with the Noto Color Emoji font."""

import colorsys
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, features

from workbench.data.samples.emoji.concepts import captions_by_sequence, concept_of, hexadecimal, one_each, split_of
from workbench.data.samples.sample import DrawnSample
from workbench.errors import unknown
from workbench.randomness import derive_seed

FONT_FILE = "NotoColorEmoji.ttf"
SIZE = 72  # pixels
STRIKE_POINTS, GLYPH_SIZE = 109, (136, 128)  # the font's only bitmap size, and its glyphs in pixels
STAR = "\u2b50"  # a reference: any emoji of one code point
REMEDY = "Debian and Ubuntu: apt-get install fonts-noto-color-emoji libfribidi0"


class EmojiFont:
    """The installed Noto Color Emoji font.

    Raises:
        ValueError: the font, or the text layout that joins code points, is missing.
    """

    def __init__(self, file: str = FONT_FILE) -> None:
        if not (features.check("raqm") and features.check("fribidi")):
            raise ValueError(f"drawing emoji needs Pillow's raqm layout and the library fribidi ({REMEDY})")
        try:
            self._font = ImageFont.truetype(file, STRIKE_POINTS, layout_engine=ImageFont.Layout.RAQM)
        except OSError as error:
            raise ValueError(f"drawing emoji needs the font Noto Color Emoji, {file} ({REMEDY})") from error
        tables = font_tables(Path(str(self._font.path)))
        if "CBDT" not in tables:
            raise ValueError(f"drawing emoji needs the bitmap edition of {file}, which has a CBDT table ({REMEDY})")
        revision = struct.unpack_from(">i", tables["head"], 4)[0]  # 16.16 fixed point
        self.version = f"{revision / 65536:.3f}"
        self._advance = self._font.getlength(STAR)

    def joins(self, sequence: str) -> bool:
        """Whether the font has one glyph for the sequence; unknown sequences are drawn as several."""
        return self._font.getlength(sequence) == self._advance

    def has_artwork(self, sequence: str) -> bool:
        """Whether a glyph is not empty; that of a missing code point is."""
        _, top, _, bottom = self._font.getbbox(sequence)
        return bottom > top

    def glyph(self, sequence: str) -> Image.Image:
        """The artwork, RGBA on a transparent background, 136 x 128."""
        image = Image.new("RGBA", GLYPH_SIZE)
        ImageDraw.Draw(image).text((0, 0), sequence, font=self._font, embedded_color=True)
        return image


def font_tables(path: Path) -> dict[str, bytes]:
    """The tables of a TrueType file by name."""
    data = path.read_bytes()
    num_tables = struct.unpack_from(">H", data, 4)[0]
    directory = struct.iter_unpack(">4sIII", data[12 : 12 + 16 * num_tables])
    return {tag.decode("latin-1"): data[offset : offset + length] for tag, _, offset, length in directory}


def on_background(glyph: Image.Image, key: str) -> Image.Image:
    """The glyph centered on a pale color that is a function of the key, RGB, 72 x 72."""
    draw = derive_seed(0, "emoji background", key)
    hue, lightness = draw % 360 / 360, 0.80 + draw // 360 % 16 / 100
    color = tuple(round(255 * channel) for channel in colorsys.hls_to_rgb(hue, lightness, 0.5))
    canvas = Image.new("RGB", (2 * SIZE, 2 * SIZE), color)
    canvas.paste(glyph, ((canvas.width - glyph.width) // 2, (canvas.height - glyph.height) // 2), glyph)
    return canvas.reduce(2)


SPLITS = ("train", "validation", "test", "teacher")


def drawable(font: EmojiFont) -> tuple[dict[str, tuple[str, ...]], Counter[str]]:
    """The captions of every emoji that the font can draw, and the number of others by reason."""
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
    """The emoji of a split in a fixed random order, so that the first N are a random sample."""
    inside = [s for s in sequences if split_of(s) == ("train" if split == "teacher" else split)]
    if split != "teacher":
        inside = list(one_each(inside).values())
    return sorted(inside, key=lambda s: derive_seed(0, "emoji order", hexadecimal(s)))


def draw(split: str) -> Iterator[DrawnSample]:
    """The samples of a split.

    `train`, `validation` and `test` have one image per concept, the neutral form if there is one; `teacher` has those
    of `train` and all their variants. The caption of a held-out image is its name; training images have aliases too.
    The record has captions, code points, concept and group: the name, or that of an earlier image with the same artwork
    (Norway and Bouvet Island).

    Raises:
        ValueError: unknown split, or the font, its layout library or the package `emoji` is missing.
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
        yield DrawnSample(key, on_background(glyph, key), record)
