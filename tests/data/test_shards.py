"""Shards as a data set: random reads, keys, what is refused when it is opened and what when it is read."""

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from workbench.data.decode import decode_image
from workbench.data.shards import ShardDataset

Pairs = Callable[..., dict[str, bytes]]
WriteTar = Callable[..., Path]


def test_samples_come_in_the_order_of_shards_and_members(write_tar: WriteTar, pairs: Pairs) -> None:
    first, second = pairs(3), pairs(4, start=3)
    dataset = ShardDataset([write_tar(first, "00000.tar"), write_tar(second, "00001.tar")])
    assert len(dataset) == 7
    for number in (6, 0, 3, 2):
        sample, text = dataset[number], dataset.text(number)
        assert (sample.key, sample.captions, sample.group, sample.label) == (
            (text.key, text.captions, text.group, text.label)
        )
        assert (text.key, text.captions, text.group) == (f"k{number:03d}", (f"caption {number}",), f"k{number:03d}")
        expected = decode_image((first | second)[f"k{number:03d}.jpg"])
        np.testing.assert_array_equal(np.asarray(sample.image), np.asarray(expected))
    for beyond in (7, -1):
        with pytest.raises(IndexError):
            dataset[beyond]


def test_group_and_class_come_from_json(write_tar: WriteTar, pairs: Pairs) -> None:
    record = {"k001.json": b'{"captions": ["x", "y"], "group": "twins", "class": "duck"}'}
    dataset = ShardDataset([write_tar(pairs(2) | record)])
    assert (dataset[1].captions, dataset[1].group, dataset[1].label) == (("x", "y"), "twins", "duck")
    assert dataset[0].label is None


def test_num_pairs_takes_the_first_ones_and_reads_no_further_shard(write_tar: WriteTar, pairs: Pairs) -> None:
    good = write_tar(pairs(3), "00000.tar")
    bad = write_tar({}, "00001.tar")
    bad.write_bytes(b"no tar")
    assert [ShardDataset([good, bad], 2).text(number).key for number in range(2)] == ["k000", "k001"]
    assert len(ShardDataset([good, bad], 3)) == 3
    assert len(ShardDataset([good], 99)) == 3
    with pytest.raises(ValueError, match=r"00001\.tar"):
        ShardDataset([good, bad], 4)


def test_keys_that_repeat_get_their_shards_name(write_tar: WriteTar, pairs: Pairs) -> None:
    paths = [write_tar(pairs(2), "00000.tar"), write_tar(pairs(2), "00001.tar")]
    dataset = ShardDataset(paths)
    texts = [dataset.text(number) for number in range(4)]
    assert [text.key for text in texts] == ["00000/k000", "00000/k001", "00001/k000", "00001/k001"]
    assert [text.group for text in texts] == [text.key for text in texts]
    with pytest.raises(ValueError, match="shards of one name share keys"):
        ShardDataset([paths[0], write_tar(pairs(2), "other/00000.tar")])


def test_the_fingerprint_follows_the_content(write_tar: WriteTar, pairs: Pairs) -> None:
    path = write_tar(pairs(3))
    fingerprint = ShardDataset([path]).fingerprint
    assert len(bytes.fromhex(fingerprint)) == 32
    assert ShardDataset([write_tar(pairs(3), "moved/00000.tar")]).fingerprint == fingerprint
    others = [
        ShardDataset([path], 2).fingerprint,
        ShardDataset([write_tar(pairs(3, start=1), "other/00000.tar")]).fingerprint,
        ShardDataset([path, write_tar(pairs(1, start=9), "00001.tar")]).fingerprint,
    ]
    assert len({fingerprint, *others}) == 4


def test_blank_captions_are_refused_at_once(write_tar: WriteTar, pairs: Pairs) -> None:
    members = pairs(5) | {"k001.txt": b" \n", "k003.txt": b""}
    with pytest.raises(
        ValueError, match=r"^2 of 5 pairs in '.*00000\.tar' have no caption \(first 'k001', 'k003'\): give each"
    ):
        ShardDataset([write_tar(members)])
    assert len(ShardDataset([write_tar(members)], 1)) == 1


@pytest.mark.parametrize("members", [{}, {"a.npy": b"x"}])
def test_no_pairs_are_refused(write_tar: WriteTar, members: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match=r"^no pairs in '.*00000\.tar': a pair is"):
        ShardDataset([write_tar(members)])


def test_members_left_out_are_told(write_tar: WriteTar, pairs: Pairs) -> None:
    path = write_tar(pairs(1) | {"../a.jpg": b"x", "b.txt": b"no picture"})
    for _ in range(2):  # from the shard, then from the cache
        with pytest.warns(UserWarning, match=r"left out 2 members of shards, first 00000\.tar: '\.\./a\.jpg'"):
            ShardDataset([path])


def test_a_picture_that_cannot_be_decoded_names_shard_and_key(write_tar: WriteTar, pairs: Pairs) -> None:
    members = pairs(2)
    members["k001.jpg"] = members["k001.jpg"][:200]
    dataset = ShardDataset([write_tar(members)])
    dataset[0]
    with pytest.raises(ValueError, match=r"^shard '.*00000\.tar', picture of 'k001': [^\n]+$"):
        dataset[1]


@pytest.mark.parametrize("how", ["rewritten", "removed"])
def test_a_shard_that_changes_under_way_is_refused(write_tar: WriteTar, pairs: Pairs, how: str) -> None:
    path = write_tar(pairs(2))
    dataset = ShardDataset([path])
    if how == "removed":
        path.unlink()
    else:
        write_tar(pairs(30, start=50))
    with pytest.raises(ValueError, match=r"^shard '.*00000\.tar' (has changed since|cannot be read any more)"):
        dataset[0]


def test_threads_may_read_at_once(write_tar: WriteTar, pairs: Pairs) -> None:
    dataset = ShardDataset([write_tar(pairs(20), "00000.tar"), write_tar(pairs(20, start=20), "00001.tar")])
    alone = [np.asarray(dataset[number].image) for number in range(40)]
    order = np.random.default_rng(0).integers(0, 40, 400).tolist()
    with ThreadPoolExecutor(4) as pool:
        for number, image in zip(order, pool.map(lambda index: dataset[index].image, order), strict=True):
            np.testing.assert_array_equal(np.asarray(image), alone[number])


def test_a_data_set_can_be_sent_to_another_process(write_tar: WriteTar, pairs: Pairs) -> None:
    dataset = ShardDataset([write_tar(pairs(2))])
    dataset[0]
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.fingerprint == dataset.fingerprint
    np.testing.assert_array_equal(np.asarray(copy[1].image), np.asarray(dataset[1].image))
