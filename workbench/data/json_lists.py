"""A JSON file of images and captions, such as COCO's and Karpathy's."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.data.forms import existing
from workbench.documents import MIB
from workbench.reading import read_file

MOST_BYTES = 4096 * MIB  # Objects365 has 1.1 GiB

_SPEC = re.compile(r"(?P<file>.+?\.json)(?:/(?P<part>\w+))?@(?P<folder>.+)")


def file_and_folder(spec: str, example: str) -> tuple[Path, Path, str]:
    """``FILE.json[/PART]@DIR`` -> the file, the folder, and the part (empty where none is named).

    Raises:
        ValueError: no folder is named, or there is no such file or folder.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise ValueError(f"'{spec}' names no folder of pictures: write it as {example}")
    return existing(match["file"], "file"), existing(match["folder"], "folder"), match["part"] or ""


def read_lists(path: Path, names: Sequence[str], remedy: str) -> dict[str, Any]:
    """The object in a JSON file, in which some names stand for lists.

    Raises:
        ValueError: it cannot be read, or has other content.
    """
    try:
        document = json.loads(read_file(path, MOST_BYTES))
    except OSError as error:
        raise ValueError(f"'{path}' cannot be read ({error.strerror}): check who may") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"'{path}' is no whole JSON file ({error}): copy or download it again") from error
    for name in names:
        if not isinstance(document, dict) or not isinstance(document.get(name), list):
            raise ValueError(f"'{path}' has no list '{name}': {remedy}")
    return dict(document)
