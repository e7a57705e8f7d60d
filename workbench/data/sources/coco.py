"""``coco:FILE.json@DIR``: COCO caption files such as ``captions_val2017.json``."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.data.captions import cleaned, usable_captions
from workbench.data.dataset import existing
from workbench.data.sources.files import ImageFiles, ImageList, base_folder
from workbench.data.unusable import BadImageCount, Reading, caption_tally, reading_of
from workbench.documents import MIB, read_file

MOST_BYTES = 4096 * MIB  # Objects365 has 1.1 GiB

_SPEC = re.compile(r"(?P<file>.+?\.json)(?:/(?P<part>\w+))?@(?P<folder>.+)")


def file_and_folder(spec: str, example: str) -> tuple[Path, Path, str]:
    """Splits ``FILE.json[/PART]@DIR`` into file, folder, and part (empty if there is none).

    Raises:
        ValueError: no folder given, or the file or folder does not exist.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise ValueError(f"'{spec}' has no image folder: write it as {example}")
    return existing(match["file"], "file"), existing(match["folder"], "folder"), match["part"] or ""


def read_lists(path: Path, names: Sequence[str], remedy: str) -> dict[str, Any]:
    """Reads a JSON object and checks that ``names`` are lists.

    Raises:
        ValueError: the file cannot be read, or has other content.
    """
    try:
        document = json.loads(read_file(path, MOST_BYTES))
    except OSError as error:
        raise ValueError(f"'{path}' cannot be read ({error.strerror}): check its permissions") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"'{path}' is not a complete JSON file ({error}): copy or download it again") from error
    for name in names:
        if not isinstance(document, dict) or not isinstance(document.get(name), list):
            raise ValueError(f"'{path}' has no list '{name}': {remedy}")
    return dict(document)


EXAMPLE = "coco:captions.json@images"
REMEDY = "give a COCO file such as captions_val2017.json, or karpathy:FILE.json@DIR for Karpathy's splits"


def open_coco(spec: str, num_pairs: int = 0) -> ImageFiles:
    """The images of a COCO caption file, in file order, each with all its captions.

    Images without a caption, and captions without an image, are left out with a warning.

    Args:
        spec: ``FILE.json@DIR``: the file, and the folder to which its ``file_name`` are relative.
        num_pairs: use only the first so many images; 0 for all.

    Raises:
        ValueError: no such file or folder, another format, or none of its images found.
    """
    path, images = coco_paths(spec)
    listed, reading = _listed(read_lists(path, ["images", "annotations"], REMEDY), path, num_pairs)
    return ImageFiles(listed, base_folder(listed, (images,), f"'{path}'"), path.name, reading=reading)


def coco_paths(spec: str) -> tuple[Path, Path]:
    """The file and the image folder of ``FILE.json@DIR``.

    Raises:
        ValueError: the file or folder does not exist.
    """
    path, images, part = file_and_folder(spec, EXAMPLE)
    if part:
        raise ValueError(f"'coco:{spec}': a COCO file has no parts, such as '{part}'; write it as {EXAMPLE}")
    return path, images


def _listed(document: dict[str, Any], path: Path, num_pairs: int) -> tuple[ImageList, Reading]:
    """The images with their captions, in the order of ``images``, and what was left out."""
    tally = caption_tally(f"'{path}'")
    captions = _captions(document["annotations"], path, tally)
    listed = ImageList(num_pairs)
    names: set[str] = set()
    num_without = 0
    for image in document["images"]:
        number, name = (_field(image, field, "image", path) for field in ("id", "file_name"))
        if name in names:
            raise ValueError(f"'{path}' lists the image {name!r} twice: give each image one entry in 'images'")
        names.add(str(name))
        texts = captions.pop(number, [])
        num_without += not texts
        for text in texts:
            listed.add(cleaned(str(name)), text)
    tally.check()
    if not listed:
        raise ValueError(f"'{path}' has no image with a caption: give a COCO file such as captions_val2017.json")
    return listed, reading_of(tally, _without_partner(path, num_without, len(captions)))


def _captions(annotations: list[Any], path: Path, tally: BadImageCount) -> dict[Any, list[str]]:
    """Captions by image id."""
    captions: dict[Any, list[str]] = {}
    for annotation in annotations:
        image = _field(annotation, "image_id", "annotation", path)
        kept, left_out = usable_captions([annotation.get("caption")])
        if "caption" not in annotation:
            left_out = (("missing", f"an annotation without 'caption' ({_fields(annotation)})"),)
        tally.add(1, [(reason, f"{line}, image {image}") for reason, line in left_out])
        if kept:
            captions.setdefault(image, []).extend(kept)
    return captions


def _field(entry: Any, name: str, kind: str, path: Path) -> str | int:
    """A string or integer field of an entry."""
    value = entry.get(name) if isinstance(entry, dict) else None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(
            f"'{path}': an {kind} without '{name}' ({_fields(entry)}): give a COCO file such as captions_val2017.json"
        )
    return value


def _fields(entry: Any) -> str:
    """The fields that an entry has, for an error message."""
    return f"it has {', '.join(map(repr, list(entry)[:12]))}" if isinstance(entry, dict) else "it is not an object"


def _without_partner(path: Path, num_images: int, num_owners: int) -> str:
    parts = {"images without a caption": num_images, "unlisted images' captions": num_owners}
    counted = [f"{count:,} {what}" for what, count in parts.items() if count]
    return f"left out {' and '.join(counted)} of '{path}'" if counted else ""
