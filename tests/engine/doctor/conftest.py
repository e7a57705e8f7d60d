"""A run with nothing wrong, and pairs with whatever is to be wrong with them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.config.run import RunConfig
from workbench.engine.doctor.machine import Finding


@pytest.fixture
def healthy(tiny) -> RunConfig:
    """The tiny run with a teacher that knows its images, and two steps of warm-up."""
    return tiny(
        teacher={"model": "sample:scenes", "chunk_size": 20},
        optimizer={"warmup_fraction": 0.17},
        loss={"fd": {"weight": 50.0}},
    )


@pytest.fixture
def pairs(tmp_path: Path) -> Callable[..., str]:
    """``pairs(captions, num_broken)``: a CSV of small noise images with these captions."""

    def write(captions: Sequence[str], num_broken: int = 0) -> str:
        noise = np.random.default_rng(0).integers(0, 256, (len(captions), 12, 12, 3), dtype=np.uint8)
        lines = ["filepath,title"]
        for index, (pixels_HWC, caption) in enumerate(zip(noise, captions, strict=True)):
            file = tmp_path / f"{index}.png"
            Image.fromarray(pixels_HWC).save(file)
            if index < num_broken:
                file.write_bytes(b"not an image")
            lines.append(f"{file.name},{caption}")
        csv = tmp_path / "pairs.csv"
        csv.write_text("\n".join(lines) + "\n")
        return str(csv)

    return write


@pytest.fixture
def one() -> Callable[..., Finding]:
    """``one(findings, check)``: the only finding of that check."""

    def only(findings: Sequence[Finding], check: str) -> Finding:
        (found,) = [finding for finding in findings if finding.check == check]
        return found

    return only
