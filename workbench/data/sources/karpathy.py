"""``karpathy:FILE.json@DIR``: Karpathy's splits of COCO, Flickr30k and Flickr8k, which most papers use.

A file such as ``dataset_flickr30k.json`` holds all splits: training uses "train" and "restval", validation "val", and
test "test". ``FILE.json/SPLIT@DIR`` selects one; "restval" is then restval alone.
"""

from pathlib import Path
from typing import Any

from workbench.data.captions import cleaned, usable_captions
from workbench.data.sources.coco import file_and_folder, read_lists
from workbench.data.sources.files import ImageFiles, ImageList, base_folder
from workbench.data.unusable import BadImageCount, caption_tally, reading_of
from workbench.errors import unknown

EXAMPLE = "karpathy:dataset_flickr30k.json@images"
REMEDY = "give a file of Karpathy's splits such as dataset_flickr30k.json"
SPLITS = {
    "train": ("train", "restval"),
    "restval": ("restval",),
    "validation": ("val",),
    "val": ("val",),
    "test": ("test",),
}


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
    images = read_lists(path, ["images"], REMEDY)["images"]
    listed, tally = ImageList(num_pairs), caption_tally(f"'{path}'")
    for image in images:
        if _split_of(image, path) in SPLITS[split]:
            _add(listed, image, path, tally)
    reading = reading_of(tally)
    if not listed:
        found = ", ".join(sorted({repr(image["split"]) for image in images})) or "none"
        raise ValueError(f"'{path}' has no image with a caption in the split '{split}': its splits are {found}")
    return ImageFiles(listed, base_folder(listed, (folder,), f"'{path}'"), path.name, reading=reading)


def karpathy_paths(spec: str, role: str) -> tuple[Path, Path, str]:
    """The file, image folder and split of ``FILE.json[/SPLIT]@DIR``.

    Raises:
        ValueError: the file, folder or split does not exist.
    """
    path, folder, split = file_and_folder(spec, EXAMPLE)
    split = split or ("train" if role == "teacher" else role)
    if split not in SPLITS:
        raise unknown(f"split of '{path}'", split, SPLITS)
    return path, folder, split


def _split_of(image: Any, path: Path) -> str:
    split = image.get("split") if isinstance(image, dict) else None
    if not isinstance(split, str):
        raise ValueError(f"'{path}': an image without 'split': {REMEDY}")
    return split


def _add(listed: ImageList, image: dict[str, Any], path: Path, tally: BadImageCount) -> None:
    """Adds one image with its usable captions."""
    name, folder, sentences = image.get("filename"), image.get("filepath", ""), image.get("sentences")
    if not isinstance(name, str) or not isinstance(folder, str) or not isinstance(sentences, list):
        raise ValueError(f"'{path}': an image without 'filename' and 'sentences': {REMEDY}")
    raw = [sentence.get("raw") if isinstance(sentence, dict) else sentence for sentence in sentences]
    kept, left_out = usable_captions(raw)
    if not raw:
        left_out = (("missing", "there are no sentences"),)
    tally.add(len(kept) + len(left_out), [(reason, f"{line}, image {name!r}") for reason, line in left_out])
    for text in kept:
        listed.add(cleaned(f"{folder}/{name}" if folder else name), text)
