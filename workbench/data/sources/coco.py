"""``coco:FILE.json@DIR`` and ``karpathy:FILE.json[/SPLIT]@DIR``: captions in JSON, images in a folder.

The first reads COCO caption files such as ``captions_val2017.json``. The second reads Karpathy's splits of COCO,
Flickr30k and Flickr8k, which most papers use: a file such as ``dataset_flickr30k.json`` holds all splits. Training uses
"train" and "restval", validation "val", and test "test"; SPLIT selects one, and "restval" is then restval alone.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.data.captions import cleaned, tallied_captions
from workbench.data.dataset import existing
from workbench.data.sources.files import ImageFiles, ImageList, base_folder
from workbench.data.unusable import BadImageCount, caption_tally, reading_of
from workbench.documents import MIB, read_file
from workbench.errors import unknown

MOST_BYTES = 4096 * MIB  # Objects365 has 1.1 GiB
COCO_EXAMPLE, KARPATHY_EXAMPLE = "coco:captions.json@images", "karpathy:dataset_flickr30k.json@images"
GIVE_COCO = "give a COCO file such as captions_val2017.json"
GIVE_KARPATHY = "give a file of Karpathy's splits such as dataset_flickr30k.json"
SPLITS = {
    "train": ("train", "restval"),
    "restval": ("restval",),
    "validation": ("val",),
    "val": ("val",),
    "test": ("test",),
}

_SPEC = re.compile(r"(?P<file>.+?\.json)(?:/(?P<part>\w+))?@(?P<folder>.+)")


def open_coco(spec: str, num_pairs: int = 0) -> ImageFiles:
    """The images of a COCO caption file, in the order of ``images``, each with all its captions.

    Images without a caption, and captions without an image, are left out with a warning.

    Args:
        spec: ``FILE.json@DIR``: the file, and the folder to which its ``file_name`` are relative.
        num_pairs: use only the first so many images; 0 for all.

    Raises:
        ValueError: no such file or folder, another format, or none of its images found.
    """
    path, folder = coco_paths(spec)
    remedy = f"{GIVE_COCO}, or karpathy:FILE.json@DIR for Karpathy's splits"
    document = read_lists(path, ["images", "annotations"], remedy)
    tally, listed = caption_tally(f"'{path}'"), ImageList(num_pairs)
    captions = _captions_by_image(document["annotations"], path, tally)
    names: set[str] = set()
    num_without = 0
    for image in document["images"]:
        number, name = (entry_field(image, field, "image", path) for field in ("id", "file_name"))
        if name in names:
            raise ValueError(f"'{path}' lists the image {name!r} twice: give each image one entry in 'images'")
        names.add(str(name))
        texts = captions.pop(number, [])
        num_without += not texts
        for text in texts:
            listed.add(cleaned(str(name)), text)
    tally.check()  # first: too many bad captions explain why no image has one
    if not listed:
        raise ValueError(f"'{path}' has no image with a caption: {GIVE_COCO}")
    parts = {"images without a caption": num_without, "unlisted images' captions": len(captions)}
    counted = [f"{count:,} {what}" for what, count in parts.items() if count]
    reading = reading_of(tally, f"left out {' and '.join(counted)} of '{path}'" if counted else "")
    return ImageFiles(listed, base_folder(listed, (folder,), f"'{path}'"), path.name, reading=reading)


def open_karpathy(spec: str, role: str, num_pairs: int = 0) -> ImageFiles:
    """The images of one split, in file order, each with all its captions (``raw``, not the tokens).

    Args:
        spec: ``FILE.json[/SPLIT]@DIR``: the file, and the folder to which its ``filepath/filename`` are relative.
        role: the split, if the SPEC has none.
        num_pairs: use only the first so many images; 0 for all.

    Raises:
        ValueError: no such file, folder or split, another format, or none of its images found.
    """
    path, folder, split = karpathy_paths(spec, role)
    images = read_lists(path, ["images"], GIVE_KARPATHY)["images"]
    listed, tally = ImageList(num_pairs), caption_tally(f"'{path}'")
    for image in images:
        if not isinstance(image, dict) or not isinstance(image.get("split"), str):
            raise ValueError(f"'{path}': an image without 'split': {GIVE_KARPATHY}")
        if image["split"] in SPLITS[split]:
            _add(listed, image, path, tally)
    reading = reading_of(tally)
    if not listed:
        found = ", ".join(sorted({repr(image["split"]) for image in images})) or "none"
        raise ValueError(f"'{path}' has no image with a caption in the split '{split}': its splits are {found}")
    return ImageFiles(listed, base_folder(listed, (folder,), f"'{path}'"), path.name, reading=reading)


def coco_paths(spec: str) -> tuple[Path, Path]:
    """The file and the image folder of ``FILE.json@DIR``.

    Raises:
        ValueError: the file or folder does not exist.
    """
    path, folder, part = _paths(spec, COCO_EXAMPLE)
    if part:
        raise ValueError(f"'coco:{spec}': a COCO file has no parts, such as '{part}'; write it as {COCO_EXAMPLE}")
    return path, folder


def karpathy_paths(spec: str, role: str) -> tuple[Path, Path, str]:
    """The file, image folder and split of ``FILE.json[/SPLIT]@DIR``.

    Raises:
        ValueError: the file, folder or split does not exist.
    """
    path, folder, split = _paths(spec, KARPATHY_EXAMPLE)
    split = split or ("train" if role == "teacher" else role)
    if split not in SPLITS:
        raise unknown(f"split of '{path}'", split, SPLITS)
    return path, folder, split


def _paths(spec: str, example: str) -> tuple[Path, Path, str]:
    """Splits ``FILE.json[/PART]@DIR`` into file, folder, and part (empty if there is none)."""
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise ValueError(f"'{spec}' has no image folder: write it as {example}")
    return existing(match["file"], "file"), existing(match["folder"], "folder"), match["part"] or ""


def read_lists(path: Path, names: Sequence[str], remedy: str) -> dict[str, Any]:
    """Reads a JSON object, and checks that ``names`` are lists."""
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


def _captions_by_image(annotations: list[Any], path: Path, tally: BadImageCount) -> dict[Any, list[str]]:
    captions: dict[Any, list[str]] = {}
    for annotation in annotations:
        image = entry_field(annotation, "image_id", "annotation", path)
        missing = "" if "caption" in annotation else f"an annotation without 'caption' ({fields_of(annotation)})"
        if kept := tallied_captions([annotation.get("caption")], tally, f"image {image}", missing):
            captions.setdefault(image, []).extend(kept)
    return captions


def _add(listed: ImageList, image: dict[str, Any], path: Path, tally: BadImageCount) -> None:
    """Adds one image of Karpathy's with its usable captions."""
    name, folder, sentences = image.get("filename"), image.get("filepath", ""), image.get("sentences")
    if not isinstance(name, str) or not isinstance(folder, str) or not isinstance(sentences, list):
        raise ValueError(f"'{path}': an image without 'filename' and 'sentences': {GIVE_KARPATHY}")
    raw = [sentence.get("raw") if isinstance(sentence, dict) else sentence for sentence in sentences]
    for text in tallied_captions(raw, tally, f"image {name!r}", "" if raw else "there are no sentences"):
        listed.add(cleaned(f"{folder}/{name}" if folder else name), text)


def entry_field(entry: Any, name: str, kind: str, path: Path, remedy: str = GIVE_COCO) -> str | int:
    """A string or integer field of an entry. Raises ValueError with the remedy if it has none."""
    value = entry.get(name) if isinstance(entry, dict) else None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"'{path}': an {kind} without '{name}' ({fields_of(entry)}): {remedy}")
    return value


def fields_of(entry: Any) -> str:
    """The fields that an entry has, for an error message."""
    return f"it has {', '.join(map(repr, list(entry)[:12]))}" if isinstance(entry, dict) else "it is not an object"
