"""Every random choice is a function of (seed, purpose, key), independent of earlier draws."""

import hashlib


def derive_seed(seed: int, purpose: str, *keys: str | int) -> int:
    """A 63-bit seed for one purpose, such as ``derive_seed(0, "crop", sample_key, epoch)``.

    Equal arguments give equal seeds on every machine. The number 1 and the text "1" are equal.
    """
    text = "\x1f".join(str(part) for part in (seed, purpose, *keys))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
