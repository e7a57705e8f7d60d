"""Captions become rows of ids that end with the largest id."""

import binascii
import json
import pickle
import re

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.models.tokenizers import BytePairTokenizer, WordTokenizer, make_tokenizer, named_tokenizer
from workbench.resources import find_resource

WORDS = WordTokenizer(words=("red", "cat", "straße"), context_length=6, num_buckets=5)
BPE = BytePairTokenizer(context_length=12)
END = 9  # padding, three words, five buckets
ODD_CAPTIONS = {
    "empty": "",
    "spaces": " \t\n ",
    "NUL": "red\x00cat",
    "emoji": "🐈‍⬛ 👩🏽‍🚀 ✨",
    "ANSI escapes": "\x1b[31mred\x1b[0m\x1b]0;title\x07 cat",
    "10,000 characters": "red cat " * 1250,
    "one long word": "x" * 10_000,
    "other scripts": "красный 猫 قطة",
    "combining marks": "e\u0301 İstanbul ﬁ",
}


def bucket(word):
    return 1 + 3 + binascii.crc32(word.encode("utf-8")) % 5


@pytest.mark.parametrize(
    ("caption", "ids"),
    [
        ("red cat", [1, 2, END, 0, 0, 0]),
        ("Red, CAT!", [1, 2, END, 0, 0, 0]),
        ("STRASSE Straße", [bucket("strasse"), 3, END, 0, 0, 0]),
        ("a dog", [bucket("a"), bucket("dog"), END, 0, 0, 0]),
        ("", [END, 0, 0, 0, 0, 0]),
        ("red " * 5, [1, 1, 1, 1, 1, END]),
        ("red " * 6, [1, 1, 1, 1, 1, END]),
        ("\x1b[31mred\x1b[0m", [bucket("31mred"), bucket("0m"), END, 0, 0, 0]),
        ("red\x00cat", [1, 2, END, 0, 0, 0]),
        ("🐈", [END, 0, 0, 0, 0, 0]),
    ],
)
def test_a_known_word_has_its_place_and_any_other_a_bucket(caption, ids):
    assert WORDS([caption]).tolist() == [ids]
    assert WORDS.vocab_size == END + 1


def test_buckets_are_pinned_so_that_shipped_weights_keep_their_meaning():
    assert WORDS(["123456789"])[0, 0] == 1 + 3 + 0xCBF43926 % 5  # the check value of CRC-32 (ISO-HDLC)


@pytest.mark.parametrize("tokenizer", [WORDS, BPE], ids=["words", "bpe"])
@pytest.mark.parametrize("caption", ODD_CAPTIONS.values(), ids=ODD_CAPTIONS)
def test_any_caption_ends_with_the_largest_id(tokenizer, caption):
    check(tokenizer, caption)


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=60))
def test_any_text_ends_with_the_largest_id(caption):
    check(WORDS, caption)


def check(tokenizer, caption):
    (row,) = tokenizer([caption])
    assert row.dtype == torch.int64
    assert row.shape == (tokenizer.context_length,)
    end = int(row.argmax())
    assert row[end] == tokenizer.vocab_size - 1
    assert (row[:end] > 0).all()
    assert (row[:end] < tokenizer.vocab_size - 1).all()
    assert (row[end + 1 :] == 0).all()


def test_a_row_does_not_depend_on_its_neighbors():
    captions = ["red cat", "", "a dog", "red " * 20]
    for tokenizer in (WORDS, BPE):
        together = tokenizer(captions)
        assert together.shape == (4, tokenizer.context_length)
        assert torch.equal(together, torch.cat([tokenizer([caption]) for caption in captions]))
        assert tokenizer([]).shape == (0, tokenizer.context_length)


def test_the_byte_pair_tokenizer_is_open_clips():
    captions = [*ODD_CAPTIONS.values(), "a photo of a cat", "It's 3 o'clock &amp; RAINING", "<end_of_text>"]
    tokenizer = BytePairTokenizer()
    assert torch.equal(tokenizer(captions), open_clip.get_tokenizer("ViT-B-32")(captions))
    assert tokenizer(["a cat"])[0, :5].tolist() == [49406, 320, 2368, 49407, 0]
    assert (tokenizer.vocab_size, tokenizer.context_length) == (49408, 77)


@pytest.mark.parametrize("tokenizer", [WORDS, BPE], ids=["words", "bpe"])
def test_a_tokenizer_is_made_again_from_its_spec_or_its_pickle(tokenizer):
    ids = tokenizer(["a red cat", "x"])  # after use, when it holds its vocabulary
    for copy in (make_tokenizer(json.loads(json.dumps(tokenizer.spec))), pickle.loads(pickle.dumps(tokenizer))):
        assert copy == tokenizer
        assert copy.vocab_size == tokenizer.vocab_size
        assert torch.equal(copy(["a red cat", "x"]), ids)


@pytest.mark.parametrize("name", ["scenes", "emoji"])
def test_the_sample_sets_bring_their_words(name):
    tokenizer = named_tokenizer(f"words:{name}", 20)
    words = find_resource(f"data_samples/{name}/words.txt").read_text(encoding="utf-8").split()
    assert tokenizer.spec == {"kind": "words", "context_length": 20, "num_buckets": 64, "words": words}
    assert len(set(words)) == len(words)
    assert all(re.fullmatch(r"\w+", word) and word == word.lower() for word in words)
    assert tokenizer([" ".join(words[:19])])[0].tolist() == [*range(1, 20), 1 + len(words) + 64]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("word:scenes", "did you mean 'words:scenes'?"), ("bpee", "did you mean 'bpe'?"), ("words:", "choose|mean")],
)
def test_an_unknown_tokenizer_offers_the_nearest(name, remedy):
    with pytest.raises(ValueError, match=f"^unknown tokenizer '{name}': .*{remedy.replace('?', '')}"):
        named_tokenizer(name, 8)


def test_a_description_of_another_librarys_tokenizer_is_refused():
    with pytest.raises(ValueError, match=r"^unknown kind of tokenizer 'None': choose one of: bpe, words$"):
        make_tokenizer({"version": "1.0", "model": {"type": "BPE", "vocab": {}}})
