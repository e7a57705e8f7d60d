"""Reading a large cache."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch

from workbench.bench.contest import peak_mb
from workbench.cache.arrays import DIGESTS, ROWS
from workbench.engine.teacher_cache.manifest import MANIFEST, Identity, Manifest, TeacherIdentity
from workbench.engine.teacher_cache.store import TeacherCache

BLOCK_MB, NUM_BLOCKS = 4, 64


@pytest.fixture
def large(tmp_path: Path) -> TeacherCache:
    """256 MB: 1,024 pairs a block, one view each, width 512; every number of a row is the pair's."""
    teacher = TeacherIdentity(
        format=1,
        weights="",
        architecture="",
        image_size=48,
        tokenizer="",
        precision="fp32",
        chunk_size=256,
        decoder="",
    )
    identity = Identity(
        data="",
        files="",
        num_pairs=1024 * NUM_BLOCKS,
        views=1,
        data_seed=0,
        crop_scale=(0.9, 1.0),
        teacher=teacher,
        dtype="float32",
    )
    manifest = Manifest(identity=identity, width=512, pairs_per_block=1024, data="", teacher="", machine={})
    digests = []
    with (tmp_path / ROWS).open("wb") as rows:
        for number in range(NUM_BLOCKS):
            pairs = np.arange(number * 1024, (number + 1) * 1024, dtype=np.float32)
            content = np.repeat(pairs, 1024).tobytes()
            assert len(content) == BLOCK_MB << 20
            rows.write(content)
            digests.append(sha256(content).digest())
    (tmp_path / DIGESTS).write_bytes(b"".join(digests))
    (tmp_path / MANIFEST).write_text(manifest.model_dump_json())
    return TeacherCache(tmp_path)


def test_reading_all_of_it_holds_little_of_it(large: TeacherCache) -> None:
    generator = torch.Generator().manual_seed(0)

    def read() -> None:
        for _ in range(100):
            rows = torch.randint(1024 * NUM_BLOCKS, (512,), generator=generator)
            found = large.embeddings(rows, torch.tensor(1.0))
            assert torch.equal(found.image_BD[:, 0], rows.float())
            assert torch.equal(found.text_BD[:, -1], rows.float())

    peak = peak_mb(read, torch.device("cpu"))
    assert peak is None or peak < 96
