"""Shards with captions of one's choice."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def write_pairs(tmp_path: Path) -> Callable[[list[bytes]], str]:
    """Writes a shard of small random images with these captions, and returns its SPEC."""

    def write(captions: list[bytes]) -> str:
        path = tmp_path / "pairs.tar"
        draw = np.random.default_rng(0)
        with tarfile.open(path, "w") as archive:
            for number, caption in enumerate(captions):
                file = io.BytesIO()
                Image.fromarray(draw.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(file, "PNG")
                for name, content in ((f"{number:03d}.png", file.getvalue()), (f"{number:03d}.txt", caption)):
                    header = tarfile.TarInfo(name)
                    header.size = len(content)
                    archive.addfile(header, io.BytesIO(content))
        return str(path)

    return write
