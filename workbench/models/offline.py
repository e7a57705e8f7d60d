"""No waiting for a network that is not there."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies


@contextmanager
def without_waiting() -> Iterator[None]:
    """Where the hub of weights has no address, its client looks into its cache at once; else it retries for a minute.

    Raises:
        ConnectionError: in the place of the client's error, where there is no address and nothing in the cache.
    """
    from huggingface_hub import constants

    host, was_offline = str(urlsplit(constants.ENDPOINT).hostname), constants.HF_HUB_OFFLINE
    is_offline = not was_offline and not _has_address(host)
    constants.HF_HUB_OFFLINE = was_offline or is_offline
    try:
        yield
    except Exception as error:
        if is_offline:
            raise ConnectionError(f"{host} cannot be reached, and its cache has no such file") from error
        raise
    finally:
        constants.HF_HUB_OFFLINE = was_offline


def _has_address(host: str) -> bool:
    if getproxies():  # then a proxy asks for it
        return True
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True
