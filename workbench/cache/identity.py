"""What makes an entry of the cache stale: identities, their digests, and how two of them differ."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import PIL
from PIL import features
from pydantic import BaseModel


def decoder() -> str:
    """Versions of Pillow and its codecs, which determine the pixels of a file."""
    versions = [f"{name} {features.version(name)}" for name in ("jpg", "zlib", "webp", "libjpeg_turbo")]
    return ", ".join([f"pillow {PIL.__version__}", *versions])


def digest_of(identity: BaseModel | str) -> str:
    """32 hexadecimal digits of the SHA-256: the name of an entry."""
    text = identity if isinstance(identity, str) else identity.model_dump_json()
    return sha256(text.encode()).hexdigest()[:32]


def differences(here: BaseModel, there: BaseModel) -> list[str]:
    """The fields in which two identities of one type differ, each with both values."""
    pairs = zip(_flat(here.model_dump()), _flat(there.model_dump()), strict=True)
    return [f"{name} ({_short(other)}, here {_short(own)})" for (name, own), (_, other) in pairs if own != other]


def _flat(identity: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in identity.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield prefix + name, value


def _short(value: Any) -> str:
    """A value in a message; hashes are cut."""
    text = str(value)
    return text if len(text) <= 12 else f"{text[:8]}..."
