import hashlib
import io
import json
import tarfile
import threading

import pytest
from PIL import Image

from workbench.data.samples.write import DrawnSample, num_pairs_in, write_shards


def drawn(number, color=(10, 200, 30)):
    record = {"captions": [f"image {number}", "été"], "group": f"group {number}"}
    return DrawnSample(f"set-{number:03d}", Image.new("RGB", (8, 8), color), record)


def write(folder, numbers=range(5), **options):
    chosen = {"image_format": "jpeg", "pairs_per_shard": 2} | options
    return write_shards((drawn(number) for number in numbers), folder, **chosen)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_pairs_are_spread_over_shards_in_order(tmp_path):
    folder = write(tmp_path / "set")
    assert sorted(contents(folder)) == ["00000.tar", "00001.tar", "00002.tar", "checksums.txt", "index.json"]
    assert num_pairs_in(folder) == 5
    with tarfile.open(folder / "00001.tar") as tar:
        assert tar.getnames() == ["set-002.jpg", "set-002.json", "set-003.jpg", "set-003.json"]
        assert json.load(tar.extractfile("set-003.json")) == drawn(3).record
        image = Image.open(tar.extractfile("set-002.jpg"))
    assert (image.size, image.mode) == ((8, 8), "RGB")


def test_a_shard_has_the_bytes_that_tarfile_would_write(tmp_path):
    ours = (write(tmp_path / "set", range(2)) / "00000.tar").read_bytes()
    theirs = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(ours)) as source,
        tarfile.open(fileobj=theirs, mode="w", format=tarfile.USTAR_FORMAT) as target,
    ):
        for member in source:
            plain = tarfile.TarInfo(member.name)
            plain.size = member.size
            target.addfile(plain, source.extractfile(member))
    assert ours == theirs.getvalue()


def test_the_same_images_give_the_same_bytes(tmp_path):
    assert contents(write(tmp_path / "one")) == contents(write(tmp_path / "two"))


def test_checksums_are_those_of_the_shards(tmp_path):
    folder = write(tmp_path / "set")
    lines = (folder / "checksums.txt").read_text().splitlines()
    assert lines == [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}"
        for name in ("00000.tar", "00001.tar", "00002.tar")
    ]


def test_webp_is_written_as_webp(tmp_path):
    with tarfile.open(write(tmp_path / "set", image_format="webp") / "00000.tar") as tar:
        assert tar.getnames()[0] == "set-000.webp"
        assert Image.open(tar.extractfile("set-000.webp")).format == "WEBP"


def test_two_writers_at_once_end_with_one_whole_folder(tmp_path):
    meeting, errors = threading.Barrier(2), []

    def images():
        yield drawn(0)
        meeting.wait(timeout=10)  # both are in the middle of it
        yield drawn(1)

    def work():
        try:
            write_shards(images(), tmp_path / "set", image_format="jpeg", pairs_per_shard=1)
        except Exception as error:  # a thread's error would be lost
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert contents(tmp_path / "set") == contents(write(tmp_path / "alone", range(2), pairs_per_shard=1))


def test_a_folder_with_other_images_is_refused_and_kept(tmp_path):
    folder = write(tmp_path / "set")
    before = contents(folder)
    with pytest.raises(ValueError, match="holds other samples: remove it"):
        write(folder, range(1, 6))
    assert contents(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_folder_that_is_no_sample_set_is_refused(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "thesis.txt").write_text("my only copy")
    with pytest.raises(ValueError, match="is in the way"):
        write(tmp_path / "set")
    assert contents(tmp_path / "set") == {"thesis.txt": b"my only copy"}


def test_an_error_half_way_leaves_nothing(tmp_path):
    def images():
        yield drawn(0)
        raise RuntimeError("out of ink")

    with pytest.raises(RuntimeError, match="out of ink"):
        write_shards(images(), tmp_path / "set", image_format="jpeg", pairs_per_shard=1)
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_is_reported(tmp_path):
    with pytest.raises(ValueError, match="no samples to write"):
        write(tmp_path / "set", range(0))
    with pytest.raises(ValueError, match="image format 'jpg': did you mean 'jpeg'"):
        write(tmp_path / "set", image_format="jpg")
    with pytest.raises(ValueError, match="too long"):
        write_shards(
            [DrawnSample("k" * 101, Image.new("RGB", (8, 8)), {})],
            tmp_path / "set",
            image_format="jpeg",
            pairs_per_shard=1,
        )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_an_index_holds_nothing(tmp_path):
    assert num_pairs_in(tmp_path / "absent") == 0
