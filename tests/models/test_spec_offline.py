"""Without a network, pretrained weights come from the cache or fail at once."""

import socket

import pytest
from huggingface_hub import constants

from workbench.models import spec
from workbench.models.spec import offline_if_unreachable


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setattr(spec, "getproxies", dict)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.mark.usefixtures("unreachable")
def test_the_hubs_client_looks_into_its_cache_only() -> None:
    with offline_if_unreachable():
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE


@pytest.mark.usefixtures("unreachable")
def test_what_the_cache_has_not_is_one_reason() -> None:
    reason = r"huggingface\.co cannot be reached, and its cache has no such file"
    with pytest.raises(ConnectionError, match=reason), offline_if_unreachable():
        raise FileNotFoundError("a page of text")
    assert not constants.HF_HUB_OFFLINE


@pytest.mark.usefixtures("unreachable")
def test_a_proxy_is_left_to_find_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spec, "getproxies", lambda: {"https": "http://proxy"})
    with offline_if_unreachable():
        assert not constants.HF_HUB_OFFLINE


def test_with_a_network_an_error_is_the_clients_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [])
    with pytest.raises(KeyError), offline_if_unreachable():
        raise KeyError("x")
