"""ObjectNet's classes: 113 of its 313 are ImageNet's, and only these are evaluated (Barbu et al. 2019).

Which they are, and what each folder is called, is in two JSON files that come with the images, in ``mappings`` next to
``images``. Names are ObjectNet's in lower case, as in CLIP_benchmark.
"""

from collections.abc import Sequence
from pathlib import Path

from workbench.documents import read_json_table

MAPPINGS = "mappings"
LABELS, SHARED = "folder_to_objectnet_label.json", "objectnet_to_imagenet_1k.json"


def objectnet_names(folder: Path, folders: Sequence[str]) -> dict[str, str] | None:
    """The class name of each sub-folder whose class is also ImageNet's, in order; None if these are no ObjectNet.

    Raises:
        ValueError: one of the two files is missing or cannot be used, or names none of the sub-folders.
    """
    mappings = folder.absolute().parent / MAPPINGS
    if not any((mappings / name).exists() for name in (LABELS, SHARED)):
        return None
    labels, shared = (_read(mappings / name) for name in (LABELS, SHARED))
    names = {name: labels[name].lower() for name in folders if labels.get(name) in shared}
    if not names:
        raise ValueError(f"'{mappings}' names none of the sub-folders of '{folder}': they are not ObjectNet's images")
    return names


def _read(path: Path) -> dict[str, str]:
    remedy = "copy it from objectnet-1.0, where it maps names to names"
    document = read_json_table(path, remedy)
    if not all(isinstance(value, str) for value in document.values()):
        raise ValueError(f"{path} is another kind of file: {remedy}")
    return document
