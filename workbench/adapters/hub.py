"""Upload of a folder to the Hugging Face Hub, in one commit.

``HF_TOKEN`` or ``hf auth login`` gives the token, ``HF_ENDPOINT`` another server, as everywhere in huggingface_hub.
"""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import reason

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_REPO = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)")
REMEDY = "log in with `hf auth login`, or set HF_TOKEN to a token that may write"


def repo_of(target: str) -> str:
    """``USER/NAME`` of ``hf:USER/NAME``, checked without network.

    Raises:
        ValueError: another form.
    """
    match = _REPO.fullmatch(target)
    if match is None:
        raise ValueError(f"--push takes hf:USER/NAME, a repository of the Hugging Face Hub (got '{target}')")
    return match["repo"]


def check_login(repo: str) -> None:
    """Asks the Hub who the token belongs to, before minutes of other work.

    Raises:
        ValueError: there is no token, it is refused, or the Hub cannot be reached.
    """
    with _explained(repo):
        _api().whoami()


def push_folder(folder: Path, repo: str, message: str, *, private: bool = False) -> str:
    """Creates the repository if it does not exist, uploads all files of a folder in one commit, and returns its URL.

    Files are visible once all of them are there: an upload that fails leaves the repository as it was, or empty.

    Raises:
        ValueError: refused, or the Hub cannot be reached; in one line with the remedy.
    """
    with _explained(repo), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the HTTP library
        api = _api()
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message)
    return str(commit.commit_url)


def _api() -> "HfApi":
    from huggingface_hub import HfApi  # takes a second

    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="clip-distillation-workbench")


@contextmanager
def _explained(repo: str) -> Iterator[None]:
    """Makes errors of the Hub one line with the remedy."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    try:
        yield
    except LocalTokenNotFoundError:
        raise ValueError(f"no token for the Hugging Face Hub: {REMEDY}") from None
    except OfflineModeIsEnabled:
        raise ValueError("HF_HUB_OFFLINE is set: unset it for --push, or drop --push") from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", 0)
        if status in (401, 403):
            raise ValueError(f"the Hugging Face Hub refused '{repo}' ({status}): {REMEDY} to it") from None
        raise ValueError(f"the Hugging Face Hub failed ({reason(error)}): try again") from None
    except Exception as error:  # the HTTP library behind huggingface_hub differs by version
        raise ValueError(
            f"cannot reach the Hugging Face Hub ({reason(error)}): check the network, or drop --push and upload the "
            "folder later with `hf upload`"
        ) from None
