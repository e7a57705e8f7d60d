"""Prints what many pairs in shards cost: indexing, opening, the first batch in both orders, memory; e.g. 1000000.

The pictures are 8 x 8 pixels, and only 100,000 pairs (200 MB) are written: further shards are links to the same files.
Their keys repeat, which is the slowest case. Each step runs in a process of its own; the files are deleted at the end.
"""

import io
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

PER_SHARD, NUM_FILES, BATCH_SIZE, NUM_WORKERS = 10_000, 10, 1024, 2
WINDOW = 65_536


def write_shard(path: Path) -> None:
    """A shard of equal pictures with different captions."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    with tarfile.open(path, "w") as archive:
        for number in range(PER_SHARD):
            for extension, content in (("png", buffer.getvalue()), ("txt", b"a red square, number %d" % number)):
                header = tarfile.TarInfo(f"{path.stem}{number:04d}.{extension}")
                header.size = len(content)
                archive.addfile(header, io.BytesIO(content))


def private_mb(pid: int) -> float:
    """Memory that a process shares with no other, in MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1000


def cpu_s() -> float:
    """CPU seconds of this process and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def opened(folder: str) -> dict[str, float]:
    """Opens the shards, indexing them if that was not done yet, and makes batches."""
    from workbench.data.batches import BatchStream
    from workbench.data.sources.tar import ShardDataset, shard_paths
    from workbench.embeddings import InputSpec
    from workbench.models.tokenizers import named_tokenizer

    found: dict[str, float] = {}
    before_mb = private_mb(os.getpid())

    def timed(name: str, work: Callable[[], object]) -> object:
        start_s, start_cpu_s = time.perf_counter(), cpu_s()
        result = work()
        found[name] = time.perf_counter() - start_s
        found[name.replace("_s", "_cpu_s")] = cpu_s() - start_cpu_s
        return result

    dataset = timed("open_s", lambda: ShardDataset(shard_paths(folder)))
    assert isinstance(dataset, ShardDataset)
    found["opened_mb"] = private_mb(os.getpid()) - before_mb
    form = InputSpec(16, named_tokenizer("words:scenes", 20), "words:scenes")
    before_mb = private_mb(os.getpid())
    for order, window in (("windows", WINDOW), ("shuffle", 0)):
        stream = BatchStream(dataset, form, (), batch_size=BATCH_SIZE, seed=0, num_workers=NUM_WORKERS, window=window)
        batches = stream.batches(0, 20)
        timed(f"{order}_first_batch_s", lambda batches=batches: next(batches))
        timed(f"{order}_next_9_s", lambda batches=batches: [next(batches) for _ in range(9)])
        workers = multiprocessing.active_children()
        found[f"{order}_worker_mb"] = max(private_mb(worker.pid or 0) for worker in workers)
        batches.close()  # pages are shared with the workers while they live
        found[f"{order}_main_mb"] = private_mb(os.getpid()) - before_mb
    return found


def measured(folder: Path) -> dict[str, float]:
    """What a new process measures."""
    environment = os.environ | {"WORKBENCH_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(folder / "shards")]
    return dict(json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout))


def main(nums_pairs: list[int]) -> None:
    """Prints a line of figures for each number of pairs."""
    with tempfile.TemporaryDirectory(prefix="workbench-shards-") as name:
        folder = Path(name)
        (folder / "files").mkdir()
        files = [folder / "files" / f"{number:05d}.tar" for number in range(NUM_FILES)]
        for file in files:
            write_shard(file)
        for num_pairs in nums_pairs:
            shards = folder / str(num_pairs)
            (shards / "shards").mkdir(parents=True)
            for number in range(num_pairs // PER_SHARD):
                (shards / "shards" / f"{number:05d}.tar").symlink_to(files[number % NUM_FILES])
            made = measured(shards)  # the cache is empty
            index_bytes = sum(file.stat().st_size for file in (shards / "cache" / "index").iterdir())
            figures = {"index_s": made["open_s"], "index_cpu_s": made["open_cpu_s"]}
            figures |= {"index_bytes_a_pair": index_bytes / num_pairs} | measured(shards)
            print(f"{num_pairs:,}", {key: round(value, 3) for key, value in figures.items()}, flush=True)


if __name__ == "__main__":
    if sys.argv[1:] and not sys.argv[1].isdigit():
        print(json.dumps(opened(sys.argv[1])))
    else:
        main([int(text.replace("_", "")) for text in sys.argv[1:]] or [100_000, 1_000_000])
