"""Shards on a server of this test's own: the same data as on disk, copied once, within a limit, whatever happens."""

import multiprocessing
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from workbench.data.batches import BatchStream
from workbench.data.sources import remote
from workbench.data.sources.remote import known_status, remote_shards
from workbench.data.sources.tar import ShardDataset, shard_paths
from workbench.data.spec import absolute_spec, check_spec, is_remote, open_dataset
from workbench.embeddings import InputSpec
from workbench.models.tokenizers import WordTokenizer

pytest.importorskip("aiohttp", reason="the extra [remote] is not installed")

FORM = InputSpec(16, WordTokenizer(("caption",), 4), "four words")
NUM_SHARDS, PER_SHARD = 6, 10


class Server(ThreadingHTTPServer):
    """Serves the files of a folder, and notes the byte ranges that were sent."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.sent: list[tuple[str, int, int]] = []  # name, start and end
        self.has_ranges = True
        self.breaks_after: int | None = None  # the number of bytes of a file that it sends before it fails

    @property
    def spec(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/data/{{0..{NUM_SHARDS - 1}}}.tar"

    def num_sent(self, name: str) -> int:
        return sum(end - start for other, start, end in self.sent if other == name)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_HEAD(self) -> None:
        self._answer(is_head=True)

    def do_GET(self) -> None:
        self._answer(is_head=False)

    def _answer(self, *, is_head: bool) -> None:
        file = self.server.folder / Path(self.path).name
        if not file.exists():
            self.send_error(404)
            return
        content = file.read_bytes()
        start, end = 0, len(content)
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked and self.server.has_ranges:
            start, end = int(asked[1]), int(asked[2]) + 1
        limit = self.server.breaks_after
        if not is_head and limit is not None and end > limit:
            self.send_error(503)
            return
        self.send_response(206 if asked and self.server.has_ranges else 200)
        self.send_header("Content-Length", str(end - start))
        self.send_header("ETag", f'"{hash(content)}"')
        self.end_headers()
        if not is_head:
            self.server.sent.append((file.name, start, end))
            self.wfile.write(content[start:end])

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def server(
    tmp_path: Path, write_tar: Callable[..., Path], pairs: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """Six shards of ten pairs, of about 30 kB each."""
    for number in range(NUM_SHARDS):
        write_tar(pairs(PER_SHARD, start=PER_SHARD * number), f"served/{number}.tar")
    monkeypatch.setattr(remote, "PAUSE_S", 0.01)
    monkeypatch.setattr(remote, "CHUNK_BYTES", 8000)
    served = Server(tmp_path / "served")
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


def size_of(server: Server, name: str) -> int:
    return (server.folder / name).stat().st_size


def copies(cache: Path) -> list[Path]:
    return sorted((cache / "remote").glob("*/*/*.tar"), key=lambda path: path.name)


def drop_copies(cache: Path) -> None:
    for path in copies(cache):
        path.unlink()


def read_all(dataset: ShardDataset) -> list[bytes]:
    return [dataset.encoded(index) for index in range(len(dataset))]


def opened(server: Server) -> ShardDataset:
    dataset = open_dataset(server.spec, "train")
    assert isinstance(dataset, ShardDataset)
    return dataset


def test_it_is_the_same_data_as_on_disk_and_copied_once(server: Server) -> None:
    local = ShardDataset(shard_paths(str(server.folder)))
    there = opened(server)
    assert there.fingerprint == local.fingerprint
    assert read_all(there) == read_all(local)
    assert [there.text(index) for index in range(len(there))] == [local.text(index) for index in range(len(local))]
    for number in range(NUM_SHARDS):
        assert server.num_sent(f"{number}.tar") == size_of(server, f"{number}.tar")
    server.shutdown()  # later runs ask for nothing
    again = opened(server)
    assert (again.fingerprint, again.stamp()) == (there.fingerprint, there.stamp())
    assert read_all(again) == read_all(local)


def test_copies_stay_within_their_limit_and_are_made_again(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = int(2.5 * max(size_of(server, f"{number}.tar") for number in range(NUM_SHARDS)))
    monkeypatch.setenv(remote.LIMIT, str(limit / 1e9))
    dataset = opened(server)
    stamp = dataset.stamp()
    stream = BatchStream(dataset, FORM, (), batch_size=5, seed=0, window=PER_SHARD)
    keys = []
    for step in range(12):
        keys += stream.batch(step).keys
        assert sum(path.stat().st_size for path in (cache / "remote").glob("*/*/*.tar*")) <= limit
    assert len(set(keys)) == 60
    assert len(copies(cache)) == 2
    local = ShardDataset(shard_paths(str(server.folder)))
    assert keys == [
        key
        for step in range(12)
        for key in BatchStream(local, FORM, (), batch_size=5, seed=0, window=PER_SHARD).batch(step).keys
    ]
    # Once for the index, and once for the epoch: windows need no shard twice.
    assert all(server.num_sent(f"{number}.tar") <= 2 * size_of(server, f"{number}.tar") for number in range(NUM_SHARDS))
    assert opened(server).stamp() == stamp


def test_the_copy_that_was_not_read_for_longest_is_deleted_first(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = remote_shards(server.spec)
    for path in paths[:3]:
        remote.ensure_copied(path)
    remote.ensure_copied(paths[0])
    used = sum(path.stat().st_size for path in paths[:3])
    monkeypatch.setenv(remote.LIMIT, str(used / 1e9))
    remote.ensure_copied(paths[3])
    assert {"0.tar", "3.tar"} <= {path.name for path in copies(cache)} <= {"0.tar", "2.tar", "3.tar"}


def test_shards_are_copied_ahead_where_they_are_announced(server: Server, cache: Path) -> None:
    dataset = opened(server)
    drop_copies(cache)
    dataset.will_need(range(15, 35))  # of the second to the fourth
    deadline = threading.Event()
    for _ in range(500):
        if len(copies(cache)) == 3:
            break
        deadline.wait(0.01)
    assert [path.name for path in copies(cache)] == ["1.tar", "2.tar", "3.tar"]


def test_data_are_judged_by_shards_that_are_copied(server: Server, cache: Path) -> None:
    dataset = opened(server)
    assert [index // PER_SHARD for index in dataset.probed(NUM_SHARDS)] == list(range(NUM_SHARDS))
    for path in copies(cache):
        if path.stem in ("0", "3"):
            path.unlink()
    found = dataset.probed(9)
    assert (found[0], found[-1], len(found)) == (PER_SHARD, 6 * PER_SHARD - 1, 9)
    assert {index // PER_SHARD for index in found} == {1, 2, 4, 5}
    drop_copies(cache)
    assert {index // PER_SHARD for index in dataset.probed(5)} == {0}
    assert max(dataset.probed(1000)) < PER_SHARD


def test_a_broken_copy_goes_on_where_it_stopped(server: Server, cache: Path) -> None:
    server.breaks_after = 17_000
    with pytest.raises(ValueError, match=r"^shard 'http://[^\n]*/0\.tar' cannot be copied \([^\n]*503[^\n]*$"):
        opened(server)
    [part] = (cache / "remote").glob("*/*/*.part")
    assert part.stat().st_size == 16_000
    server.breaks_after = None
    assert read_all(opened(server)) == read_all(ShardDataset(shard_paths(str(server.folder))))
    assert server.num_sent("0.tar") == size_of(server, "0.tar")
    assert not list((cache / "remote").glob("*/*/*.part"))


@pytest.mark.slow
def test_a_part_of_an_earlier_content_is_not_continued(server: Server) -> None:
    server.breaks_after = 17_000
    with pytest.raises(ValueError, match="cannot be copied"):
        opened(server)
    server.breaks_after = None
    shutil.copy(server.folder / "5.tar", server.folder / "0.tar")
    assert opened(server).encoded(0) == ShardDataset([server.folder / "5.tar"]).encoded(0)


@pytest.mark.slow
def test_a_server_without_ranges_sends_whole_files(server: Server) -> None:
    server.has_ranges = False
    assert read_all(opened(server)) == read_all(ShardDataset(shard_paths(str(server.folder))))


def test_a_changed_shard_is_refused_and_then_read_anew(server: Server, cache: Path) -> None:
    dataset = opened(server)
    before = dataset.fingerprint, dataset.stamp()
    drop_copies(cache)
    content = bytearray((server.folder / "1.tar").read_bytes())
    content[dataset._locate(PER_SHARD)[1].offset + 40] ^= 1  # one bit of an image
    (server.folder / "1.tar").write_bytes(content)
    assert dataset.encoded(0)
    with pytest.raises(ValueError, match=r"^shard '[^\n]*1\.tar' has changed since it was copied first: start again$"):
        dataset.encoded(PER_SHARD)
    again = opened(server)
    assert again.stamp() != before[1]
    assert again.encoded(PER_SHARD) != ShardDataset(shard_paths(str(server.folder))).encoded(0)


def test_no_such_shard_is_one_line(server: Server, workbench: Any) -> None:
    (server.folder / "3.tar").unlink()
    result = workbench("data", "check", server.spec)
    assert result.code == 1  # like missing shards on this disk
    assert re.search(r"1 of 6 shards cannot be used; there is no shard 'http://[^\n]*/3\.tar'", result.err)


@pytest.mark.parametrize(
    "command",
    [
        ("data", "check"),
        pytest.param(("train", "--recipe", "clip-kd", "--set", "data.num_pairs=0", "--set"), marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("cache")
def test_a_server_that_does_not_answer_is_one_line(
    workbench: Any, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PAUSE_S", 0.01)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{taken.getsockname()[1]}/{{00000..00999}}.tar"
    result = workbench(*command, f"data.train={dead}" if command[-1] == "--set" else dead)
    assert result.code == 2
    assert result.out == ""
    line = result.err.splitlines()[-1]
    assert "00000.tar' cannot be copied" in line
    assert "copy the shards to this machine" in line
    assert "Traceback" not in result.err


def test_an_unreachable_shard_may_be_skipped(server: Server) -> None:
    (server.folder / "3.tar").unlink()
    dataset = open_dataset(server.spec, "train", bad_shards="skip")
    assert len(dataset) == 50
    assert dataset.reading.skipped_shards == ("3.tar",)


def _copy_slowly(spec: str, answer: Any) -> None:
    answer.put(len(read_all(ShardDataset(remote_shards(spec)))))


@pytest.mark.slow
def test_of_two_processes_one_copies_a_shard(server: Server) -> None:
    context = multiprocessing.get_context("fork")
    answer = context.Queue()
    processes = [context.Process(target=_copy_slowly, args=(server.spec, answer)) for _ in range(2)]
    for process in processes:
        process.start()
    assert [answer.get(timeout=60) for _ in processes] == [60, 60]
    for process in processes:
        process.join()
    for number in range(NUM_SHARDS):
        assert server.num_sent(f"{number}.tar") == size_of(server, f"{number}.tar")


def test_any_file_system_of_fsspec_will_do(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in memory, which states sizes alone, in place of s3: and hf:, which need the network."""
    files = pytest.importorskip("fsspec").filesystem("memory")
    for number in range(2):
        files.pipe(f"/bucket/{number}.tar", (server.folder / f"{number}.tar").read_bytes())
    there = ShardDataset(remote_shards("memory://bucket/{0..1}.tar"))
    assert read_all(there) == read_all(ShardDataset([server.folder / "0.tar", server.folder / "1.tar"]))
    files.rm("/bucket", recursive=True)
    assert len(ShardDataset(remote_shards("memory://bucket/{0..1}.tar"))) == 2 * PER_SHARD
    with pytest.raises(ValueError, match=r"^there is no shard 'memory://bucket/5\.tar': correct its address$"):
        remote_shards("memory://bucket/5.tar")

    def refused(*_: object, **__: object) -> None:
        raise RuntimeError("no credentials\nwere found")

    monkeypatch.setattr(type(files), "info", refused)
    with pytest.raises(ValueError, match=r"cannot be copied \(no credentials were found\): check [^\n]*credentials"):
        remote_shards("memory://bucket/6.tar")


@pytest.mark.parametrize("kept_gb", ["1e-6", "none", "-3"])
def test_a_limit_that_holds_no_shard_is_named(server: Server, monkeypatch: pytest.MonkeyPatch, kept_gb: str) -> None:
    monkeypatch.setenv(remote.LIMIT, kept_gb)
    with pytest.raises(ValueError, match=rf"^[^\n]*{remote.LIMIT}[^\n]*$"):
        opened(server)


def test_a_full_disk_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "free_bytes", lambda _: 1000)
    with pytest.raises(ValueError, match=r"^shard '[^\n]*cannot be copied \(disk full[^\n]*WORKBENCH_CACHE[^\n]*$"):
        opened(server)


def test_a_copy_is_recognized_by_its_content(server: Server, cache: Path) -> None:
    [path] = remote_shards(server.spec.replace("{0..5}", "2"))
    status = known_status(path)
    assert status is not None and status[0] == size_of(server, "2.tar") == path.stat().st_size
    assert path.stat().st_mtime_ns == status[1]
    drop_copies(cache)
    assert known_status(path) == status
    remote.ensure_copied(path)
    assert path.stat().st_mtime_ns == status[1]


@pytest.mark.parametrize(
    ("spec", "remedy"),
    [
        ("https://host/pairs.csv", r"no URL of a \.tar file"),
        ("https:host.tar", r"no URL of a \.tar file"),
        ("s3://bucket/{3..1}.tar", "write the smaller number first"),
        ("htps://host/0.tar", "did you mean 'https:'"),
    ],
)
def test_a_wrong_url_is_refused_without_asking(spec: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        check_spec(spec, "train")


def test_the_extra_is_named_where_it_is_missing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(ValueError, match=r"pip install 'clip-distillation-workbench\[remote\]'"):
        opened(server)


def test_remote_specs_are_known_by_their_scheme() -> None:
    assert is_remote("s3://bucket/{0..9}.tar")
    assert is_remote("samples:scenes*2 + hf://datasets/a/b/0.tar*1")
    assert not is_remote("samples:scenes + pairs/{0..9}.tar")
    assert absolute_spec("https://host/{0..9}.tar") == "https://host/{0..9}.tar"
