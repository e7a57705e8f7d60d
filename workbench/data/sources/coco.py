"""``coco:FILE.json@DIR``: pictures with several captions each, as ``captions_val2017.json`` of COCO lists them."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.data.captions import cleaned, sorted_out
from workbench.data.dataset import existing
from workbench.data.sources.files import ImageFiles, ImageList, begins_at
from workbench.data.unusable import BadImageCount, Reading, caption_tally, reading_of
from workbench.documents import MIB, read_file

# A JSON file of images and captions, such as COCO's and Karpathy's.

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


EXAMPLE = "coco:captions.json@images"
REMEDY = "give a COCO file such as captions_val2017.json, or karpathy:FILE.json@DIR for Karpathy's splits"


def open_coco(spec: str, num_pairs: int = 0) -> ImageFiles:
    """The pictures of a COCO caption file, in its order, each with all its captions.

    Pictures without a caption, and captions without a picture, are left out with a warning.

    Args:
        spec: ``FILE.json@DIR``: the file, and the folder from which its ``file_name`` are seen.
        num_pairs: how many pictures at most, the first ones; 0 for all.

    Raises:
        ValueError: no such file or folder, a file of another kind, or no picture where it points.
    """
    path, images = coco_paths(spec)
    listed, reading = _listed(read_lists(path, ["images", "annotations"], REMEDY), path, num_pairs)
    return ImageFiles(listed, begins_at(listed, (images,), f"'{path}'"), path.name, reading=reading)


def coco_paths(spec: str) -> tuple[Path, Path]:
    """The file and the folder of images that ``FILE.json@DIR`` names.

    Raises:
        ValueError: there is no such file or folder.
    """
    path, images, part = file_and_folder(spec, EXAMPLE)
    if part:
        raise ValueError(f"'coco:{spec}': a COCO file has no parts, such as '{part}'; write it as {EXAMPLE}")
    return path, images


def _listed(document: dict[str, Any], path: Path, num_pairs: int) -> tuple[ImageList, Reading]:
    """Captions by picture, in the order of ``images``, and what was left out."""
    tally = caption_tally(f"'{path}'")
    captions = _captions(document["annotations"], path, tally)
    listed = ImageList(num_pairs)
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
    tally.check()
    if not listed:
        raise ValueError(f"'{path}' has no picture with a caption: give a COCO file such as captions_val2017.json")
    return listed, reading_of(tally, _without_partner(path, num_without, len(captions)))


def _captions(annotations: list[Any], path: Path, tally: BadImageCount) -> dict[Any, list[str]]:
    """Captions by the id of their picture."""
    captions: dict[Any, list[str]] = {}
    for annotation in annotations:
        image = _field(annotation, "image_id", "annotation", path)
        kept, left_out = sorted_out([annotation.get("caption")])
        if "caption" not in annotation:
            left_out = (("missing", f"an annotation without 'caption' ({_fields(annotation)})"),)
        tally.add(1, [(reason, f"{line}, image {image}") for reason, line in left_out])
        if kept:
            captions.setdefault(image, []).extend(kept)
    return captions


def _field(entry: Any, name: str, kind: str, path: Path) -> str | int:
    """A name or a number of an entry."""
    value = entry.get(name) if isinstance(entry, dict) else None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(
            f"'{path}': an {kind} without '{name}' ({_fields(entry)}): give a COCO file such as captions_val2017.json"
        )
    return value


def _fields(entry: Any) -> str:
    """What an entry has instead of what was looked for."""
    return f"it has {', '.join(map(repr, list(entry)[:12]))}" if isinstance(entry, dict) else "it is no object"


def _without_partner(path: Path, num_pictures: int, num_owners: int) -> str:
    parts = {"pictures without a caption": num_pictures, "unlisted pictures' captions": num_owners}
    said = [f"{count:,} {what}" for what, count in parts.items() if count]
    return f"left out {' and '.join(said)} of '{path}'" if said else ""
