"""What stops a night from being spent on nonsense, and what only raises a voice."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from workbench.data.check import preflight
from workbench.data.sources.tar import ShardDataset
from workbench.data.spec import open_dataset
from workbench.embeddings import InputSpec

Pairs = Callable[..., dict[str, bytes]]
WriteTar = Callable[..., Path]


def tokenize(captions: Sequence[str]) -> Tensor:
    """Six words at most."""
    return torch.tensor([([1] * len(caption.split()) + [0] * 6)[:6] for caption in captions])


FORM = InputSpec(8, tokenize, "words")


def test_sound_data_pass_in_silence(write_tar: WriteTar, pairs: Pairs) -> None:
    assert preflight(ShardDataset([write_tar(pairs(60))]), FORM, 16) == []
    assert preflight(ShardDataset([write_tar(pairs(1))]), FORM, 16) == []


@pytest.mark.parametrize("name", ["scenes", "emoji"])
def test_the_samples_pass_in_silence(name: str) -> None:
    long = InputSpec(8, lambda captions: torch.zeros(len(captions), 9), "long")
    assert preflight(open_dataset(f"samples:{name}", "train", 1000), long, 128) == []


def test_one_caption_for_all_is_refused(write_tar: WriteTar, pairs: Pairs) -> None:
    members = pairs(9) | {f"k{number:03d}.txt": b"untitled" for number in range(9)}
    with pytest.raises(ValueError, match=r"^all 9 pairs have the same caption, 'untitled'"):
        preflight(ShardDataset([write_tar(members)]), FORM, 4)


def test_one_image_for_all_is_refused(write_tar: WriteTar, pairs: Pairs, image: Callable[..., bytes]) -> None:
    members = pairs(60) | {f"k{number:03d}.jpg": image(0) for number in range(60)}
    with pytest.raises(ValueError, match=r"^all 48 checked images are the same \(such as 'k000', 'k001'"):
        preflight(ShardDataset([write_tar(members)]), FORM, 4)


def test_hardly_an_image_that_can_be_used_is_refused(write_tar: WriteTar, pairs: Pairs) -> None:
    members = pairs(60) | {f"k{number:03d}.jpg": b"<html>" for number in range(0, 60, 2)}
    with pytest.raises(ValueError, match=r"^too many images cannot be used, 2\d of 48 \(2\d no JPEG, PNG or WebP"):
        preflight(ShardDataset([write_tar(members)]), FORM, 4)


def test_a_few_bad_images_are_a_note(write_tar: WriteTar, pairs: Pairs) -> None:
    members = pairs(40) | {"k005.jpg": b"<html>", "k006.jpg": b""}
    [note] = preflight(ShardDataset([write_tar(members)]), FORM, 4)
    assert note.startswith("of a sample of the images, some cannot be used: 2 of 40 (1 ")


def test_shared_captions_are_a_note_where_they_meet_in_a_batch(write_tar: WriteTar, pairs: Pairs) -> None:
    members = pairs(60) | {f"k{number:03d}.txt": f"caption {number % 6}".encode() for number in range(60)}
    dataset = ShardDataset([write_tar(members)])
    # A pair has 9 others of its caption among 59, and 30 negatives in a batch of 31: 30 * 9 / 59 of them are true.
    assert preflight(dataset, FORM, 31) == [
        "60 pairs share 6 captions: in a batch of 31, 4.6 of a pair's 30 negatives have its caption on average"
    ]
    assert preflight(dataset, FORM, 4) == []  # 3 * 9 / 59 is below a half


def test_captions_that_are_cut_are_a_note(write_tar: WriteTar, pairs: Pairs) -> None:
    members = pairs(10) | {f"k{number:03d}.txt": b"word " * 6 + b"%d" % number for number in range(3)}
    assert preflight(ShardDataset([write_tar(members)]), FORM, 4) == [
        "about 30% of the captions fill the 6 tokens that the student reads, or are cut there: "
        "one with a longer text_cfg.context_length reads more"
    ]
