"""ImageNet's class names and OpenAI's 80 prompt templates, as the papers evaluate zero-shot classification.

Names and templates are open_clip's, the order of the WordNet ids is timm's. Both are read as files: importing the
packages takes seconds.
"""

import runpy
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from workbench.prompts import is_id

NUM_CLASSES = 1000


def imagenet_names(folders: Sequence[str]) -> dict[str, str] | None:
    """The class name of each folder, if all are WordNet ids of ImageNet-1k, or exactly its indices 0 to 999; else None.

    ImageNet-R, -A and -Sketch have WordNet ids, some or all of the 1,000; ImageNet-V2 has indices.
    """
    if not folders or not all(map(is_id, folders)):
        return None
    indices = [str(index) for index in range(NUM_CLASSES)]
    ids = _file("timm", "data/_info/imagenet_synsets.txt").read_text().split()
    order = indices if set(folders) == set(indices) else ids
    names = dict(zip(order, _metadata()["IMAGENET_CLASSNAMES"], strict=True))
    if not names.keys() >= set(folders):
        return None
    return {folder: names[folder] for folder in sorted(folders, key=order.index)}  # as text, 10 comes before 2


def imagenet_templates() -> tuple[str, ...]:
    """The 80 templates, each with one ``{}``."""
    return tuple(template("{}") for template in _metadata()["OPENAI_IMAGENET_TEMPLATES"])


def _metadata() -> dict[str, Any]:
    """The constants of open_clip's ``zero_shot_metadata``, which imports nothing."""
    return runpy.run_path(str(_file("open_clip", "zero_shot_metadata.py")))


def _file(package: str, name: str) -> Path:
    """A file of an installed package, which is not imported."""
    spec = find_spec(package)
    assert spec and spec.origin
    return Path(spec.origin).parent / name
