"""Uploads to a local stand-in for the Hub: one commit, or a line with the remedy."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.hub_server import TOKEN, Hub, local_hub
from workbench.adapters.hub import check_login, push_folder, repo_of


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with local_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # the server speaks Git LFS only
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An exported folder in small."""
    files = {"README.md": b"# student\n", "config.json": b"{}", "model.safetensors": bytes(range(256)) * 100}
    (tmp_path / "student").mkdir()
    for name, content in files.items():
        (tmp_path / "student" / name).write_bytes(content)
    return tmp_path / "student"


def test_a_folder_is_one_commit_with_all_its_files(hub: Hub, folder: Path) -> None:
    check_login("me/student")
    url = push_folder(folder, "me/student", "workbench export one", private=True)
    assert url == f"{hub.url}/me/student/commit/{'0' * 40}"
    assert hub.created == {"me/student": True}
    [commit] = hub.commits
    assert commit["summary"] == "workbench export one"
    assert commit["files"] == {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("status", [403, 500])
@pytest.mark.parametrize("where", ["/preupload/", "/commit/", "/repos/create"])
def test_an_upload_that_is_refused_leaves_nothing_half_done(
    hub: Hub, folder: Path, where: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)  # retries of a server error wait for seconds
    hub.refuse = where, status
    remedy = "HF_TOKEN to a token that may write to it" if status == 403 else "try again"
    with pytest.raises(ValueError, match=rf"^the Hugging Face Hub [^\n]*{remedy}$"):
        push_folder(folder, "me/student", "one")
    assert hub.commits == []


def test_a_token_that_is_missing_or_refused_is_a_line_with_the_remedy(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(ValueError, match=r"^the Hugging Face Hub refused 'me/student' \(401\): .*`hf auth login`.*$"):
        check_login("me/student")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ValueError, match=r"^no token for the Hugging Face Hub: log in with `hf auth login`.*HF_TOKEN"):
        check_login("me/student")
    assert hub.commits == []


@pytest.mark.usefixtures("hub")
def test_without_a_network_it_is_a_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody listens
    with pytest.raises(ValueError, match=r"^cannot reach the Hugging Face Hub \([^\n]*drop --push[^\n]*$"):
        check_login("me/student")


@pytest.mark.parametrize("target", ["me/student", "hf:student", "hf:", "hf:a/b/c", "gs:a/b", "hf:a b/c"])
def test_a_target_is_a_user_and_a_name(target: str) -> None:
    with pytest.raises(ValueError, match=r"--push takes hf:USER/NAME"):
        repo_of(target)
    assert repo_of("hf:me/small.clip-1") == "me/small.clip-1"
