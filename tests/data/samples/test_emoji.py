"""The emoji samples: the shipped ones are complete and leak no concept; drawing them gives the same."""

import hashlib
import io
import itertools
import json
import re
import sys
import tarfile
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from workbench.data.samples import emoji
from workbench.data.samples.emoji import (
    FONT_FILE,
    EmojiFont,
    captions_by_sequence,
    concept_of,
    drawable,
    held_out,
    is_country_flag,
    is_neutral,
    on_background,
    plain_words,
    select,
    sparable,
    split_of,
)

SHIPPED = Path(__file__).parents[3] / "data_samples" / "emoji"
SPLITS = ("train", "validation", "test")
SKIN_TONES = {0x1F3FB, 0x1F3FC, 0x1F3FD, 0x1F3FE, 0x1F3FF}
WHO = r"\b(wo)?m[ae]n\b|\bpe(rson|ople)\b|\bboys?\b|\bgirls?\b|\bchild\b|\b(fe)?male\b|\bold(er)? (?=(wo)?man|person)"
HOW = r"\b(medium )?(light|dark|medium) skin tone\b|\b(red|curly|white|blond) hair\b|\bbald\b|\bfacing right\b"


@cache
def shipped(split: str) -> dict[str, tuple[dict[str, Any], bytes]]:
    """The records and encoded images of a shipped split by key, read by tarfile alone."""
    pairs: dict[str, dict[str, bytes]] = {}
    for path in sorted((SHIPPED / split).glob("*.tar")):
        with tarfile.open(path) as archive:
            for member in archive:
                key, _, suffix = member.name.partition(".")
                assert suffix not in pairs.setdefault(key, {})
                pairs[key][suffix] = archive.extractfile(member).read()
    return {key: (json.loads(parts["json"]), parts["webp"]) for key, parts in pairs.items()}


def records(split: str) -> list[dict[str, Any]]:
    return [record for record, _ in shipped(split).values()]


def sequence_of(record: dict[str, Any]) -> str:
    return "".join(chr(int(point.removeprefix("U+"), 16)) for point in record["codepoints"].split())


@cache
def why_no_font() -> str:
    """Why nothing can be drawn here; empty when something can."""
    try:
        EmojiFont()
        next(captions_by_sequence())
    except ValueError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def font() -> EmojiFont:
    """The font, whatever its version."""
    if why_no_font():
        pytest.skip(why_no_font())
    return EmojiFont()


@pytest.fixture(scope="module")
def teacher(font: EmojiFont) -> dict[str, tuple[str, ...]]:
    """The captions of the teacher's emoji by code points, of the versions that the shipped images have."""
    if not same_source(font):
        pytest.skip("another version of the font or of the package emoji than the shipped images were made with")
    captions, left_out = drawable(font)
    assert len(captions) + left_out.total() == 3963
    return {sequence: captions[sequence] for sequence in select(captions, "teacher")}


def same_source(font: EmojiFont) -> bool:
    from importlib.metadata import version

    source = json.loads((SHIPPED / "source.json").read_text())
    return source["font"].endswith(f" {font.version}") and source["names"] == f"emoji {version('emoji')}"


class TestShippedShards:
    @pytest.mark.parametrize(("split", "num_pairs"), [("train", 1401), ("validation", 135), ("test", 135)])
    def test_every_pair_is_complete(self, split: str, num_pairs: int) -> None:
        pairs = shipped(split)
        assert len(pairs) == num_pairs
        for key, (record, encoded) in pairs.items():
            with Image.open(io.BytesIO(encoded)) as image:
                assert (image.format, image.mode, image.size) == ("WEBP", "RGB", (72, 72))
                image.load()
            assert key == "-".join(f"{ord(character):x}" for character in sequence_of(record))
            assert record["captions"]

    @pytest.mark.parametrize("split", SPLITS)
    def test_checksums_are_those_of_the_shards(self, split: str) -> None:
        lines = (SHIPPED / split / "checksums.txt").read_text().splitlines()
        found = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (SHIPPED / split).glob("*.tar")}
        assert dict(reversed(line.split("  ")) for line in lines) == found

    def test_they_are_small_and_have_their_licenses(self) -> None:
        assert sum(path.stat().st_size for path in SHIPPED.rglob("*.tar")) <= 6_000_000
        assert "Google Inc." in (SHIPPED / "OFL.txt").read_text()
        assert "SIL OPEN FONT LICENSE Version 1.1" in (SHIPPED / "OFL.txt").read_text()

    def test_words_are_those_of_the_training_captions(self) -> None:
        in_train = {word for r in records("train") for caption in r["captions"] for word in caption.split()}
        assert in_train <= set(emoji.words())
        assert {"skin", "tone", "mermaid"} <= set(emoji.words()) - in_train, "the teacher's variants count too"
        assert list(emoji.words()) == sorted(set(emoji.words()))

    def test_missing_words_are_an_error_with_a_remedy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("workbench.data.samples.emoji.find_resource", lambda _: None)
        with pytest.raises(ValueError, match="install clip-distillation-workbench again"):
            emoji.words()


class TestSplits:
    def test_no_concept_is_in_two_splits_and_each_has_one_image(self) -> None:
        everywhere = [record for split in SPLITS for record in records(split)]
        for record in everywhere:
            assert record["concept"] == concept_of(sequence_of(record))
        assert max(Counter(record["concept"] for record in everywhere).values()) == 1

    def test_no_name_is_in_two_splits_without_the_words_for_who_it_is(self) -> None:
        """Independent of code points: the names alone, less person, gender, age, hair and skin tone."""
        stems = {}
        for split in SPLITS:
            names = (re.sub(f"{WHO}|{HOW}", "", record["captions"][0]) for record in records(split))
            stems[split] = {" ".join(name.split()) for name in names} - {""}
        for one, other in itertools.combinations(SPLITS, 2):
            assert stems[one].isdisjoint(stems[other])

    @pytest.mark.parametrize("split", SPLITS)
    def test_only_neutral_forms_ship(self, split: str) -> None:
        for record in records(split):
            assert is_neutral(sequence_of(record))
            assert not SKIN_TONES & set(map(ord, sequence_of(record)))

    def test_flags_of_countries_are_for_training(self) -> None:
        flags = {split: sum(is_country_flag(sequence_of(r)) for r in records(split)) for split in SPLITS}
        assert flags == {"train": 262, "validation": 0, "test": 0}

    @pytest.mark.parametrize("split", ["validation", "test"])
    def test_training_names_hold_every_word_of_a_held_out_caption(self, split: str) -> None:
        names = (r["captions"][0] for r in records("train") if not is_country_flag(sequence_of(r)))
        in_training = {word for name in names for word in name.split()}
        for record in records(split):
            for caption in record["captions"]:
                assert set(caption.split()) <= in_training, caption

    def test_what_ships_is_what_the_names_say(self) -> None:
        pytest.importorskip("emoji", reason="the package emoji is not installed")
        shipped_splits = {r["concept"]: split for split in ("validation", "test") for r in records(split)}
        assert held_out() == shipped_splits, "a renamed emoji would show a teacher drawn now what is held out"

    def test_neighbours_are_spared_while_another_has_their_words(self) -> None:
        names = {"1": "grinning cat", "2": "grinning face", "3": "cat face", "4": "grapes"}
        spared = list(sparable(names))
        assert len(spared) == 1, "any one of three needs the other two"
        assert spared[0] != "4"

    @given(st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=3).map(" ".join), max_size=30))
    def test_no_word_is_lost_at_any_point_and_nothing_more_can_be_spared(self, named: list[str]) -> None:
        names = {str(concept): name for concept, name in enumerate(named)}
        every_word, staying = {word for name in named for word in name.split()}, dict(names)
        for concept in sparable(names):
            del staying[concept]
            assert {word for name in staying.values() for word in name.split()} == every_word
        for concept, name in staying.items():
            others = {word for other in staying if other != concept for word in staying[other].split()}
            assert not set(name.split()) <= others

    def test_an_unknown_split_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="did you mean 'validation'"):
            next(emoji.draw("valid"))


class TestConcepts:
    @pytest.mark.parametrize(
        ("variant", "concept"),
        [
            ("\U0001f34e", "1f34e"),
            ("\U0001f469\U0001f3fd\u200d\U0001f680", "1f9d1-1f680"),  # woman astronaut: medium skin tone
            ("\U0001f3c3\U0001f3ff\u200d\u2640\ufe0f\u200d\u27a1\ufe0f", "1f3c3"),  # woman running to the right
            ("\U0001f468\u200d\U0001f9b0", "1f9d1"),  # man: red hair
            ("\U0001f471\U0001f3fb\u200d\u2642\ufe0f", "1f9d1"),  # man: light skin tone, blond hair
            ("\U0001f467", "1f9d2"),  # girl
            ("\U0001f46c\U0001f3fb", "1f9d1-1f91d-1f9d1"),  # men holding hands
            ("\U0001f469\U0001f3fb\u200d\U0001f91d\u200d\U0001f468\U0001f3ff", "1f9d1-1f91d-1f9d1"),
            ("\U0001f469\u200d\u2764\ufe0f\u200d\U0001f48b\u200d\U0001f468", "1f48f"),  # kiss
            ("\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466", "1f46a"),  # family
            ("\U0001faf1\U0001f3fb\u200d\U0001faf2\U0001f3ff", "1f91d"),  # handshake
            ("\U0001f478\U0001f3fe", "1fac5"),  # princess
            ("\u2640\ufe0f", "2640"),  # a sign, not a modifier, when it stands first
            ("\U0001f642\u200d\u2194\ufe0f", "1f642-2194"),  # head shaking: no variant of the smile
        ],
    )
    def test_who_and_how_are_undone(self, variant: str, concept: str) -> None:
        assert concept_of(variant) == concept

    def test_tones_and_genders_follow_their_concept(self) -> None:
        runner, modifiers = "\U0001f3c3", ("", "\u200d\u2640\ufe0f", "\u200d\u2642\ufe0f")
        tones = ("", *map(chr, SKIN_TONES))
        pytest.importorskip("emoji", reason="the package emoji is not installed")
        assert len({split_of(runner + tone + gender) for tone in tones for gender in modifiers}) == 1


class TestCaptions:
    @pytest.mark.parametrize("split", SPLITS)
    def test_they_are_words_and_distinct(self, split: str) -> None:
        every = [caption for record in records(split) for caption in record["captions"]]
        assert all(re.fullmatch("[a-z0-9]+( [a-z0-9]+)*", caption) for caption in every)
        assert len(set(every)) == len(every)

    @pytest.mark.parametrize("split", ["validation", "test"])
    def test_held_out_images_have_their_name_alone(self, split: str) -> None:
        assert all(record["captions"] == [record["group"]] for record in records(split))

    def test_images_with_the_same_artwork_are_true_of_one_another(self) -> None:
        group_of = {record["captions"][0]: record["group"] for record in records("train")}
        assert len({group_of[f"flag {name}"] for name in ("norway", "bouvet island", "svalbard and jan mayen")}) == 1
        assert group_of["flag iceland"] != group_of["flag norway"]

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            (":red_apple:", "red apple"),
            (":T-Rex:", "t rex"),
            (":woman\u2019s_hat:", "womans hat"),
            (":six_o\u2019clock:", "six oclock"),
            (":U.S._Virgin_Islands:", "us virgin islands"),
            (":Côte_d\u2019Ivoire:", "cote divoire"),
            (":São_Tomé_&_Príncipe:", "sao tome and principe"),
            (":keycap_#:", "keycap hash"),
            (":AB_button_(blood_type):", "ab button blood type"),
        ],
    )
    def test_plain_words(self, name: str, words: str) -> None:
        assert plain_words(name) == words

    def test_newer_emoji_can_be_passed_over(self) -> None:
        pytest.importorskip("emoji", reason="the package emoji is not installed")
        before, every = dict(captions_by_sequence(15.0)), dict(captions_by_sequence())
        phoenix = "\U0001f426\u200d\U0001f525"  # of 15.1
        assert phoenix in every.keys() - before.keys()
        assert before == {sequence: every[sequence] for sequence in before}

    def test_no_caption_is_another_emojis(self) -> None:
        pytest.importorskip("emoji", reason="the package emoji is not installed")
        captions = dict(captions_by_sequence())
        assert captions["\U0001f34e"] == ("red apple", "apple")
        assert captions["\U0001f1e6\U0001f1e9"] == ("flag andorra", "flag for andorra", "andorra")
        assert captions["\U0001f5d3\ufe0f"] == ("spiral calendar", "spiral calendar pad")
        assert captions["\U0001f4c6"] == ("tear off calendar",), "'calendar' is the name of another"
        every = Counter(caption for known in captions.values() for caption in known)
        assert max(every.values()) == 1

    def test_without_the_package_the_error_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "emoji", None)
        with pytest.raises(ValueError, match=r"pip install 'clip-distillation-workbench\[emoji\]'"):
            next(captions_by_sequence())


class TestDrawing:
    def test_without_the_font_the_error_says_what_to_install(self) -> None:
        with pytest.raises(ValueError, match="apt-get install fonts-noto-color-emoji"):
            EmojiFont("NoSuchEmoji.ttf")

    def test_without_the_layout_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("workbench.data.samples.emoji.features.check", lambda _: False)
        with pytest.raises(ValueError, match="libfribidi0"):
            EmojiFont(FONT_FILE)

    def test_the_glyph_is_centred_on_a_pale_colour_of_the_key(self) -> None:
        glyph = Image.new("RGBA", (136, 128), (255, 0, 0, 255))
        pixels = np.asarray(on_background(glyph, "1f34e"))
        rows, columns = np.nonzero((pixels == (255, 0, 0)).all(axis=2))
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 67, 2, 69)
        assert pixels[0, 0].min() > 150
        np.testing.assert_array_equal(pixels, np.asarray(on_background(glyph, "1f34e")))
        assert (pixels[0, 0] != np.asarray(on_background(glyph, "1f34f"))[0, 0]).any()

    def test_what_the_font_does_not_know_is_told_apart(self, font: EmojiFont) -> None:
        apple, woman_astronaut = "\U0001f34e", "\U0001f469\u200d\U0001f680"
        assert font.joins(apple) and font.has_artwork(apple)
        assert font.joins(woman_astronaut) and font.has_artwork(woman_astronaut)
        assert not font.joins(apple + "\u200d" + apple), "a sequence that nobody defined"
        assert not font.has_artwork("\u0378"), "a code point that nobody assigned"

    def test_drawing_gives_what_ships(self, font: EmojiFont) -> None:
        if not same_source(font):
            pytest.skip("another version of the font or of the names than the shipped images were made with")
        drawn = list(emoji.draw("validation"))
        assert [sample.key for sample in drawn] == list(shipped("validation"))
        for sample in drawn:
            record, encoded = shipped("validation")[sample.key]
            assert sample.record == record
            with Image.open(io.BytesIO(encoded)) as image:
                error = np.abs(np.asarray(image, float) - np.asarray(sample.image, float))
            assert error.mean() < 10, "lossy compression apart"

    def test_the_teacher_sees_the_variants_of_training_concepts_alone(
        self, teacher: dict[str, tuple[str, ...]]
    ) -> None:
        assert {sequence_of(record) for record in records("train")} < set(teacher)
        assert {concept_of(s) for s in teacher} == {record["concept"] for record in records("train")}
        assert sum(not is_neutral(sequence) for sequence in teacher) == 1719

    def test_words_are_all_the_teachers(self, teacher: dict[str, tuple[str, ...]]) -> None:
        every = (caption for captions in teacher.values() for caption in captions)
        assert set(emoji.words()) == {word for caption in every for word in caption.split()}
