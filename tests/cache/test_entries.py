"""Entries of the cache: what is listed, what an identity is called, and how two of them differ."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from workbench.cache.entries import CacheEstimate, EntryKind, require_room
from workbench.cache.identity import differences, digest_of
from workbench.files import DiskFullError


class Model(BaseModel):
    weights: str
    size: int = 1


class Manifest(BaseModel):
    data: str
    model: Model = Model(weights="abc")


KIND = EntryKind("things", "inner", "thing.json", Manifest, lambda it: it.data)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    return tmp_path


def made(digest: str, data: str) -> Path:
    folder = KIND.folder(digest)
    folder.mkdir(parents=True)
    (folder / "thing.json").write_text(Manifest(data=data).model_dump_json())
    (folder / "rows").write_bytes(bytes(100))
    return folder


def test_entries_are_listed_in_order_and_removed(cache: Path) -> None:
    assert KIND.entries() == []
    second, first = made("aa", "b.csv"), made("bb", "a.csv")
    assert first == cache / "things" / "bb" / "inner"
    assert [entry.folder for entry in KIND.entries()] == [first, second]
    assert {entry.size_bytes for entry in KIND.entries()} == {100 + (first / "thing.json").stat().st_size}
    KIND.remove(first)
    KIND.remove(first)
    assert [entry.folder for entry in KIND.entries()] == [second]


def test_an_entry_without_a_readable_manifest_does_not_exist() -> None:
    (made("aa", "a.csv") / "thing.json").unlink()
    (made("bb", "b.csv") / "thing.json").write_text("{")
    assert KIND.entries() == []


def test_a_digest_names_an_identity() -> None:
    names = {digest_of(identity) for identity in (Model(weights="a"), Model(weights="b"), Manifest(data="a"), "a")}
    assert {len(name) for name in names} == {32}
    assert len(names) == 4
    assert digest_of("a") == "ca978112ca1bbdcafac231b39a23dc4d"


def test_differences_name_nested_fields_and_cut_hashes() -> None:
    here = Manifest(data="a", model=Model(weights="0123456789abcdef"))
    there = Manifest(data="a", model=Model(weights="fedcba9876543210", size=2))
    assert differences(here, there) == ["model weights (fedcba98..., here 01234567...)", "model size (2, here 1)"]
    assert differences(here, here) == []


def test_an_estimate_is_written_as_size_and_time() -> None:
    assert str(CacheEstimate(2_000_000, 90.0)) == "2.0 MB, about 1.5 min"


def test_room_is_required(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.cache.entries.free_bytes", lambda _: 10)
    require_room(cache, 10)
    with pytest.raises(DiskFullError):
        require_room(cache, 11)
