"""Shards as a dataset: random reads, keys, errors on opening and on reading."""

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from workbench.data.images import decode_image
from workbench.data.sources.tar import ShardDataset

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


def test_num_pairs_takes_the_first_ones_and_reads_no_later_shard(write_tar: WriteTar, pairs: Pairs) -> None:
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
    with pytest.raises(ValueError, match="shards with the same name share keys"):
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


def test_blank_captions_are_left_out_and_counted(write_tar: WriteTar, pairs: Pairs) -> None:
    members = pairs(200) | {"k001.txt": b" \n", "k003.txt": b"", "k004.json": b'{"captions": ["x", null]}'}
    del members["k007.txt"]
    members |= {"k007.json": b'{"caption": 7}', "k150.json": b"{"}
    path = write_tar(members)
    for _ in range(2):  # from the shard, then from the cache
        with pytest.warns(
            UserWarning,
            match=r"^left out captions of '.*00000\.tar': 5 of 201 \(2 blank, .*such as 00000\.tar, 'k001'",
        ):
            dataset = ShardDataset([path])
        assert dataset.reading.left_out == {"blank": 2, "null": 1, "not text": 1, "unusable JSON": 1}
    assert len(dataset) == 196
    keys = [dataset.text(index).key for index in range(196)]
    assert not {"k001", "k003", "k007", "k150"} & set(keys)
    assert dataset.text(keys.index("k004")).captions == ("x",)
    assert len(ShardDataset([path], 2)) == 2


def test_too_many_blank_captions_are_refused(write_tar: WriteTar, pairs: Pairs) -> None:
    blank = {f"k{number:03d}.txt": b"" for number in range(0, 12, 2)}
    with pytest.raises(ValueError, match=r"^too many captions of '.*00000\.tar' cannot be used, 6 of 100 \(6 blank; "):
        ShardDataset([write_tar(pairs(100) | blank)])
    images = {name: content for name, content in pairs(3).items() if name.endswith(".jpg")}
    with pytest.raises(ValueError, match=r'3 of 3 \(3 missing; .* there is no \.txt, and no "caption" in a \.json'):
        ShardDataset([write_tar(images)])


def test_lines_are_captions_if_most_texts_have_several(write_tar: WriteTar, pairs: Pairs) -> None:
    """The layout of CLIP_benchmark's retrieval sets."""
    several = {f"k{number:03d}.txt": b"a dog\n\na hound \r\na pet\n" for number in range(3)}
    dataset = ShardDataset([write_tar(pairs(4) | several | {"k002.json": b'{"caption": "x\\ny"}'})])
    assert dataset.reading.lines_are_captions
    assert [dataset.text(index).captions for index in (0, 3)] == [("a dog", "a hound", "a pet"), ("caption 3",)]
    few = ShardDataset([write_tar(pairs(4) | {"k000.txt": b"a dog\na hound"})])
    assert not few.reading.lines_are_captions
    assert few.text(0).captions == ("a dog\na hound",)


def test_line_breaks_in_json_captions_never_split_them(write_tar: WriteTar, pairs: Pairs) -> None:
    members = {name: content for name, content in pairs(3).items() if name.endswith(".jpg")}
    members |= {f"k{number:03d}.json": b'{"caption": "x\\ny"}' for number in range(3)}
    assert ShardDataset([write_tar(members)]).text(0).captions == ("x\ny",)


def three_shards(write_tar: WriteTar, pairs: Pairs, bad: str) -> list[Path]:
    """Three shards of two pairs each, the middle one torn or missing."""
    paths = [write_tar(pairs(2, start=2 * number), f"0000{number}.tar") for number in range(3)]
    if bad == "missing":
        paths[1].unlink()
    else:
        paths[1].write_bytes(paths[1].read_bytes()[:3000])
    return paths


@pytest.mark.parametrize("bad", ["missing", "torn"])
def test_bad_shards_are_refused_or_skipped_and_counted(write_tar: WriteTar, pairs: Pairs, bad: str) -> None:
    paths = three_shards(write_tar, pairs, bad)
    with pytest.raises(ValueError, match=r"^1 of 3 shards cannot be used; .*00001\.tar' .*data\.bad_shards=skip"):
        ShardDataset(paths)
    with pytest.warns(UserWarning, match=r"left out 1 of 3 shards .*00001\.tar'"):
        dataset = ShardDataset(paths, bad_shards="skip")
    assert [dataset.text(index).key for index in range(len(dataset))] == ["k000", "k001", "k004", "k005"]
    assert dataset.reading.skipped_shards == ("00001.tar",)
    assert dataset.fingerprint != ShardDataset([paths[0], paths[2]]).fingerprint


def test_skipping_changes_nothing_if_all_shards_are_good_and_fails_if_none_is(
    write_tar: WriteTar, pairs: Pairs
) -> None:
    paths = [write_tar(pairs(2), "00000.tar"), write_tar(pairs(2, start=2), "00001.tar")]
    assert ShardDataset(paths, bad_shards="skip").fingerprint == ShardDataset(paths).fingerprint
    for path in paths:
        path.write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"^2 of 2 shards cannot be used") as refused:
        ShardDataset(paths, bad_shards="skip")
    assert "bad_shards" not in str(refused.value)


@pytest.mark.parametrize("members", [{}, {"a.npy": b"x"}])
def test_no_pairs_are_refused(write_tar: WriteTar, members: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match=r"^no pairs in '.*00000\.tar': a pair is"):
        ShardDataset([write_tar(members)])


def test_ignored_members_are_a_warning(write_tar: WriteTar, pairs: Pairs) -> None:
    path = write_tar(pairs(1) | {"../a.jpg": b"x", "b.txt": b"no image"})
    for _ in range(2):  # from the shard, then from the cache
        with pytest.warns(UserWarning, match=r"left out 2 members of shards, first 00000\.tar: '\.\./a\.jpg'"):
            ShardDataset([path])


def test_an_image_that_cannot_be_decoded_names_shard_and_key(write_tar: WriteTar, pairs: Pairs) -> None:
    members = pairs(2)
    members["k001.jpg"] = members["k001.jpg"][:200]
    dataset = ShardDataset([write_tar(members)])
    dataset[0]
    with pytest.raises(ValueError, match=r"^shard '.*00000\.tar', image of 'k001': [^\n]+$"):
        dataset[1]


@pytest.mark.parametrize("how", ["rewritten", "removed"])
def test_a_shard_that_changes_while_open_is_refused(write_tar: WriteTar, pairs: Pairs, how: str) -> None:
    path = write_tar(pairs(2))
    dataset = ShardDataset([path])
    if how == "removed":
        path.unlink()
    else:
        write_tar(pairs(30, start=50))
    with pytest.raises(ValueError, match=r"^shard '.*00000\.tar' (has changed since|can no longer be read)"):
        dataset[0]


def test_threads_can_read_at_once(write_tar: WriteTar, pairs: Pairs) -> None:
    dataset = ShardDataset([write_tar(pairs(20), "00000.tar"), write_tar(pairs(20, start=20), "00001.tar")])
    alone = [np.asarray(dataset[number].image) for number in range(40)]
    order = np.random.default_rng(0).integers(0, 40, 400).tolist()
    with ThreadPoolExecutor(4) as pool:
        for number, image in zip(order, pool.map(lambda index: dataset[index].image, order), strict=True):
            np.testing.assert_array_equal(np.asarray(image), alone[number])


def test_a_dataset_is_picklable(write_tar: WriteTar, pairs: Pairs) -> None:
    dataset = ShardDataset([write_tar(pairs(2))])
    dataset[0]
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.fingerprint == dataset.fingerprint
    np.testing.assert_array_equal(np.asarray(copy[1].image), np.asarray(dataset[1].image))


def test_images_that_will_be_needed_are_announced_in_their_shards(
    write_tar: WriteTar, pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = [write_tar(pairs(number, start=100 * number), f"{number}.tar") for number in (5, 3, 4)]
    dataset = ShardDataset(shards, num_pairs=11)
    assert dataset.shard_sizes == ([5, 3, 4],)
    spans: list[tuple[int, int]] = []
    monkeypatch.setattr("os.posix_fadvise", lambda _file, start, length, _advice: spans.append((start, start + length)))
    dataset.will_need(range(3, 9))
    rows = [dataset._locate(index)[1] for index in (3, 4, 5, 7, 8)]
    assert spans == [
        (rows[0].offset, rows[1].offset + rows[1].size),
        (rows[2].offset, rows[3].offset + rows[3].size),
        (rows[4].offset, rows[4].offset + rows[4].size),
    ]
