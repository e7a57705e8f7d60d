"""Small images and tars, and a separate cache for each test."""

import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Members = Mapping[str, bytes]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, instead of the user's."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tar_bytes() -> Callable[[Members], bytes]:
    """A tar of some files, as bytes."""
    return _tar_bytes


@pytest.fixture
def write_tar(tmp_path: Path, cache: Path) -> Callable[..., Path]:  # noqa: ARG001 - whoever writes a tar indexes it
    """Writes a tar of some files into the test's folder."""

    def write(members: Members, name: str = "00000.tar") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_tar_bytes(members))
        return path

    return write


@pytest.fixture
def image() -> Callable[..., bytes]:
    """A smooth random image, encoded: the number decides what it shows."""
    return _image


@pytest.fixture
def pairs() -> Callable[..., dict[str, bytes]]:
    """The members of some pairs: ``k000.jpg`` and ``k000.txt``, and so on."""

    def make(count: int, size: tuple[int, int] = (40, 32), start: int = 0) -> dict[str, bytes]:
        members: dict[str, bytes] = {}
        for number in range(start, start + count):
            members[f"k{number:03d}.jpg"] = _image(number, size)
            members[f"k{number:03d}.txt"] = f"caption {number}".encode()
        return members

    return make


@pytest.fixture
def write_images(tmp_path: Path, cache: Path) -> Callable[..., list[str]]:  # noqa: ARG001 - nor here
    """Writes some images below the test's folder, and returns their names: ``images/k000.jpg`` and so on."""

    def write(count: int, folder: str = "images", start: int = 0, size: tuple[int, int] = (40, 32)) -> list[str]:
        names = [f"{folder}/k{number:03d}.jpg" for number in range(start, start + count)]
        for number, name in enumerate(names, start):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(_image(number, size))
        return names

    return write


def _tar_bytes(members: Members) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


def _image(number: int, size: tuple[int, int] = (40, 32), image_format: str = "JPEG") -> bytes:
    coarse = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(buffer, image_format)
    return buffer.getvalue()
