"""``coco:FILE.json@DIR``: pictures with several captions each, as ``captions_val2017.json`` of COCO lists them."""

import json
import warnings
from pathlib import Path
from typing import Any

from workbench.data.forms import existing
from workbench.data.picture_files import PictureFiles, PictureList, begins_at
from workbench.data.texts import cleaned


def open_coco(spec: str, num_pairs: int = 0) -> PictureFiles:
    """The pictures of a COCO caption file, in its order, each with all its captions.

    Pictures without a caption, and captions without a picture, are left out with a warning.

    Args:
        spec: ``FILE.json@DIR``: the file, and the folder from which its ``file_name`` are seen.
        num_pairs: how many pictures at most, the first ones; 0 for all.

    Raises:
        ValueError: no such file or folder, a file of another kind, or no picture where it points.
    """
    path, images = coco_paths(spec)
    listed = _listed(_read(path), path, num_pairs)
    return PictureFiles(listed, begins_at(listed, (images,), f"'{path}'"), path.name)


def coco_paths(spec: str) -> tuple[Path, Path]:
    """The file and the folder of images that ``FILE.json@DIR`` names.

    Raises:
        ValueError: there is no such file or folder.
    """
    file, at, folder = spec.partition(".json@")
    if not at or not folder:
        raise ValueError(f"'coco:{spec}' names no folder of pictures: write it as coco:captions.json@images")
    return existing(f"{file}.json", "file"), existing(folder, "folder")


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"'{path}' cannot be read ({error.strerror}): check who may") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"'{path}' is no whole JSON file ({error}): copy or download it again") from error
    for key in ("images", "annotations"):
        if not isinstance(document, dict) or not isinstance(document.get(key), list):
            raise ValueError(f"'{path}' has no list '{key}': give a COCO file such as captions_val2017.json")
    return dict(document)


def _listed(document: dict[str, Any], path: Path, num_pairs: int) -> PictureList:
    """Captions by picture, in the order of ``images``."""
    captions: dict[Any, list[str]] = {}
    for annotation in document["annotations"]:
        image, caption = (_field(annotation, name, "annotation", path) for name in ("image_id", "caption"))
        if text := cleaned(str(caption)):
            captions.setdefault(image, []).append(text)
    listed = PictureList(num_pairs)
    names: set[str] = set()
    num_without = 0
    for image in document["images"]:
        number, name = (_field(image, field, "image", path) for field in ("id", "file_name"))
        if name in names:
            raise ValueError(f"'{path}' lists the picture {name!r} twice: give each picture one entry in 'images'")
        names.add(str(name))
        texts = captions.pop(number, [])
        num_without += not texts
        for text in texts:
            listed.add(cleaned(str(name)), text)
    if not listed:
        raise ValueError(f"'{path}' has no picture with a caption: give a COCO file such as captions_val2017.json")
    _tell(path, num_without, len(captions))
    return listed


def _field(entry: Any, name: str, kind: str, path: Path) -> str | int:
    """A name, a number or a caption of an entry."""
    value = entry.get(name) if isinstance(entry, dict) else None
    if isinstance(value, bool) or not isinstance(value, str | int):
        found = ", ".join(map(repr, list(entry)[:12])) if isinstance(entry, dict) else "not an object"
        raise ValueError(
            f"'{path}': an {kind} without '{name}' (it has {found}): give a COCO file such as captions_val2017.json"
        )
    return value


def _tell(path: Path, num_pictures: int, num_owners: int) -> None:
    parts = {"pictures without a caption": num_pictures, "unlisted pictures' captions": num_owners}
    if said := [f"{count:,} {what}" for what, count in parts.items() if count]:
        warnings.warn(f"left out {' and '.join(said)} of '{path}'", stacklevel=5)
