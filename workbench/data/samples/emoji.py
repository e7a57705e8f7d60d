"""Emoji samples: artwork of the Noto Color Emoji font, names of Unicode's CLDR, splits by concept.

Validation and test hold out concepts whose names consist of training words. Concepts are visited in the order of a
hash. One is held out if every word of its name also occurs in the name of another concept that is not held out so far:
for example "grinning cat", because of "grinning squinting face" and "cat face". So every word of a held-out name occurs
in training. Held-out concepts alternate between validation and test until each has 135.

Flags of countries and regions are always in training, and their names do not count, since a flag cannot be guessed from
words. Concepts newer than Unicode emoji 15.1 are in training too, so that newer fonts and packages change no split.
"""

import colorsys
import math
import re
import struct
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Literal

from PIL import Image, ImageDraw, ImageFont, features

from workbench.data.samples.write import DrawnSample
from workbench.errors import unknown
from workbench.randomness import derive_seed
from workbench.resources import find_resource

JOINER = "\u200d"
PRESENTATION = "\ufe0f"
SKIN_TONES = frozenset(map(chr, range(0x1F3FB, 0x1F400)))
HAIR = frozenset(map(chr, range(0x1F9B0, 0x1F9B4)))
MODIFIERS = HAIR | {"\u2640", "\u2642", "\u27a1"}  # joined after a person: hair, woman, man, facing right
PERSON, CHILD, FAMILY = "1f9d1", "1f9d2", "1f46a"
PEOPLE = {"1f468": PERSON, "1f469": PERSON, "1f466": CHILD, "1f467": CHILD}  # man, woman, boy, girl

# Exceptions to the rules: gender or hair within one code point, and different encodings of one concept.
SAME = {
    "1f471": PERSON,  # blond hair
    "1f9d4": PERSON,  # beard
    "1f474": "1f9d3",  # old man, old woman: older person
    "1f475": "1f9d3",
    "1f934": "1fac5",  # prince, princess: person with crown
    "1f478": "1fac5",
    "1f385": "1f9d1-1f384",  # Santa Claus, Mrs. Claus: Mx Claus
    "1f936": "1f9d1-1f384",
    "1f930": "1fac4",  # pregnant woman, pregnant man: pregnant person
    "1fac3": "1fac4",
    "1f57a": "1f483",  # man dancing: woman dancing (there is no neutral form)
    "1f46b": "1f9d1-1f91d-1f9d1",  # woman and man, men, women: people holding hands
    "1f46c": "1f9d1-1f91d-1f9d1",
    "1f46d": "1f9d1-1f91d-1f9d1",
    "1f9d1-2764-1f9d1": "1f491",  # couple with heart
    "1f9d1-2764-1f48b-1f9d1": "1f48f",  # kiss
    "1faf1-1faf2": "1f91d",  # a hand to the right, a hand to the left: handshake
    "1f9d1-1f430-1f9d1": "1f46f",  # people with bunny ears
    "1f9d1-1faef-1f9d1": "1f93c",  # people wrestling
    "1f6b9": "1f6bb",  # men's room, women's room: restroom
    "1f6ba": "1f6bb",
    "2642": "2640",  # male sign: female sign
}


def hexadecimal(sequence: str) -> str:
    """The code points, such as "1f469-1f3fd-200d-1f680"; a sample's key."""
    return "-".join(f"{ord(character):x}" for character in sequence)


def concept_of(sequence: str) -> str:
    """An emoji's code points without skin tone, gender, hair and direction, in hexadecimal.

    Variants of one concept must be in one split: they are nearly the same image.
    """
    bare = "".join(c for c in sequence if c not in SKIN_TONES and c != PRESENTATION)
    first, *rest = bare.split(JOINER)
    hexes = [hexadecimal(part) for part in (first, *(part for part in rest if part not in MODIFIERS))]
    parts = [PEOPLE.get(part, part) for part in hexes]
    if len(parts) > 1 and set(parts) <= {PERSON, CHILD}:
        return FAMILY
    concept = "-".join(parts)
    return SAME.get(concept, concept)


def is_neutral(sequence: str) -> bool:
    """Whether an emoji is its concept's neutral form: no skin tone, gender or hair."""
    return hexadecimal(sequence.replace(JOINER, "").replace(PRESENTATION, "")) == concept_of(sequence)


def one_each(sequences: Iterable[str]) -> dict[str, str]:
    """One emoji per concept: the neutral form, or else the shortest."""
    chosen: dict[str, str] = {}
    for sequence in sorted(sequences, key=lambda s: (not is_neutral(s), len(s), s)):
        chosen.setdefault(concept_of(sequence), sequence)
    return chosen


def is_country_flag(sequence: str) -> bool:
    """Whether an emoji is the flag of a country or region: two regional letters, or a flag with tags."""
    return "\U0001f1e6" <= sequence[0] <= "\U0001f1ff" or sequence.endswith("\U000e007f")


SPOKEN = {"&": " and ", "#": " hash ", "*": " asterisk "}
MAX_ALIASES = 2


def plain_words(name: str) -> str:
    """A CLDR name or alias as lower-case words of a-z and 0-9: ":woman's_hat:" becomes "womans hat"."""
    text = unicodedata.normalize("NFKD", name.lower())
    for symbol, word in SPOKEN.items():
        text = text.replace(symbol, word)
    text = re.sub(r"[.'\u2019\u0300-\u036f]", "", text)  # removed, not replaced by a space
    return " ".join(re.findall("[a-z0-9]+", text))


def captions_by_sequence(newest: float = math.inf) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every fully qualified emoji with its captions: the CLDR name, then at most two aliases.

    Emoji after version `newest` of Unicode's list, such as 15.1, are skipped.

    An alias is left out if it repeats the name, belongs to another emoji too, or is not a word (contains a digit or has
    fewer than three letters: "clock830", "de"). The package omits "flag:" from the names of countries' flags; it is
    restored here.

    Raises:
        ValueError: the package `emoji` is not installed.
    """
    try:
        from emoji import EMOJI_DATA, STATUS
    except ImportError as error:
        remedy = "pip install 'clip-distillation-workbench[emoji]'"
        raise ValueError(f"drawing emoji needs the package `emoji` for their names: {remedy}") from error
    entries = {s: e for s, e in EMOJI_DATA.items() if e["status"] == STATUS["fully_qualified"]}
    names = {s: plain_words(f"flag {e['en']}" if is_country_flag(s) else e["en"]) for s, e in entries.items()}
    aliases = {s: list(dict.fromkeys(map(plain_words, e.get("alias", ())))) for s, e in entries.items()}
    claims = Counter([*names.values(), *(alias for known in aliases.values() for alias in known)])
    for sequence, name in names.items():
        if entries[sequence]["E"] <= newest:
            usable = (a for a in aliases[sequence] if claims[a] == 1 and re.fullmatch("[a-z ]{3,}", a))
            yield sequence, (name, *list(usable)[:MAX_ALIASES])


WORDS_FILE = "words.txt"


def words() -> tuple[str, ...]:
    """Every word of the captions of `train` and `teacher`, sorted, from the shipped list: no font or names needed.

    Raises:
        ValueError: the shipped list is missing.
    """
    return tuple(shipped_text(WORDS_FILE).split())


def shipped_text(name: str) -> str:
    """The content of a file of ``data_samples/emoji``. Raises ValueError if it is missing."""
    path = find_resource(f"data_samples/emoji/{name}")
    if path is None:
        raise ValueError(f"data_samples/emoji/{name} is missing: install clip-distillation-workbench again")
    return path.read_text(encoding="utf-8")


NEWEST = 15.1  # the last version of Unicode's emoji that font 2.042 covers completely
CONCEPTS_PER_SPLIT = 135

Split = Literal["train", "validation", "test"]


def split_of(sequence: str) -> Split:
    """The split of an emoji's concept.

    Raises:
        ValueError: the package `emoji`, whose names the splits depend on, is not installed.
    """
    return held_out().get(concept_of(sequence), "train")


@cache
def held_out() -> dict[str, Split]:
    """The split of every concept that is not in training; cached, since it processes all emoji."""
    captions = dict(captions_by_sequence(NEWEST))
    names = {concept: captions[s][0] for concept, s in one_each(captions).items() if not is_country_flag(s)}
    splits: tuple[Split, ...] = ("validation", "test") * CONCEPTS_PER_SPLIT
    return dict(zip(sparable(names), splits, strict=False))


def sparable(names: Mapping[str, str]) -> Iterator[str]:
    """Concepts that can be held out, one after the other, while training keeps every word of their names."""
    in_training = Counter(word for name in names.values() for word in set(name.split()))
    for concept in sorted(names, key=lambda concept: derive_seed(0, "emoji split", concept)):
        words = set(names[concept].split())
        if all(in_training[word] > 1 for word in words):
            in_training.subtract(words)
            yield concept


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
