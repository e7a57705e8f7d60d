"""``folder:DIR``: a class per sub-folder, its name in the caption."""

import os
import warnings
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from workbench.data.bar import with_bar
from workbench.data.forms import existing
from workbench.data.picture_files import PictureFiles, PictureList
from workbench.data.sample import Dataset
from workbench.data.samples.zero_shot import ZeroShotTask
from workbench.data.tar_index import PICTURE_EXTENSIONS
from workbench.data.texts import cleaned
from workbench.documents import read_json

CAPTION = "a photo of a {}."
NAMES_FILE = "classes.json"
MANY_FOLDERS = 50


def open_folder(spec: str, num_pairs: int = 0) -> PictureFiles:
    """The pictures below a folder's sub-folders, taken from each class in turn, so that the first ones are of all.

    A class is called as ``classes.json`` in the folder says (``{"n02084071": ["dog", "hound"]}``), else as its
    sub-folder with spaces for underscores. Captions are "a photo of a NAME." for each name of the class.

    Args:
        num_pairs: how many pictures at most, the first ones; 0 for all.

    Raises:
        ValueError: no such folder, fewer than two classes with pictures, or names that do not tell classes apart.
    """
    folder = existing(spec, "folder")
    names = _class_names(folder)
    pictures = {name: sorted(_pictures(folder, name)) for name in with_bar(list(names), "looking up", MANY_FOLDERS)}
    filled = [name for name in names if pictures[name]]
    if len(filled) < 2:
        raise ValueError(
            f"'{folder}' has pictures in {len(filled)} of its sub-folders, and a class needs one each: "
            f"folder:DIR is a folder with a sub-folder of .{', .'.join(PICTURE_EXTENSIONS)} files for each class"
        )
    if loose := [entry.name for entry in folder.iterdir() if _is_picture(entry.name)]:
        warnings.warn(f"left out {len(loose):,} pictures of '{folder}' that are in no sub-folder", stacklevel=3)
    listed, class_N = PictureList(num_pairs), array("q")
    aliases = tuple(names.values())
    for number, file in islice(_in_turn(list(pictures.values())), num_pairs or None):
        class_N.append(number)
        for alias in aliases[number]:
            listed.add(file, CAPTION.format(alias))
    return PictureFiles(listed, folder, f"folder:{spec}", class_N=class_N, classes=aliases)


def class_task(dataset: Dataset) -> ZeroShotTask | None:
    """Zero-shot classification among the classes that data name, asked in the words of their captions."""
    return ZeroShotTask(dataset.classes, (CAPTION,)) if dataset.classes else None


def _class_names(folder: Path) -> dict[str, tuple[str, ...]]:
    """The names of each sub-folder's class, in the order of the sub-folders.

    Raises:
        ValueError: two classes share a name.
    """
    folders = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    given = _given_names(folder / NAMES_FILE)
    if unnamed := [name for name in folders if given and name not in given]:
        warnings.warn(f"{NAMES_FILE} names none of {len(unnamed):,} sub-folders, first {unnamed[0]!r}", stacklevel=4)
    names = {name: given.get(name) or (cleaned(name.replace("_", " ")) or name,) for name in folders}
    uses = Counter(alias for aliases in names.values() for alias in set(aliases))
    if shared := [alias for alias, count in uses.items() if count > 1]:
        owners = [name for name, aliases in names.items() if shared[0] in aliases]
        raise ValueError(
            f"the sub-folders {owners[0]!r} and {owners[1]!r} of '{folder}' are both called {shared[0]!r}: "
            f"tell them apart in {NAMES_FILE}"
        )
    return names


def _given_names(path: Path) -> dict[str, tuple[str, ...]]:
    """``{sub-folder: names}`` as the file says, if there is one."""
    if not path.exists():
        return {}
    try:
        document = read_json(path)
        if not isinstance(document, dict):
            raise ValueError("not an object")
        return {folder: _aliases(names) for folder, names in document.items()}
    except OSError as error:
        raise ValueError(f"'{path}' cannot be read ({error.strerror}): check who may") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f'\'{path}\' must map sub-folders to a name or a list of names, as in {{"n02084071": ["dog", "hound"]}}'
        ) from error


def _aliases(names: object) -> tuple[str, ...]:
    given = [names] if isinstance(names, str) else names
    if not isinstance(given, list) or not given or not all(isinstance(name, str) and cleaned(name) for name in given):
        raise ValueError("no name")
    return tuple(dict.fromkeys(cleaned(name) for name in given))


def _pictures(folder: Path, name: str) -> Iterator[str]:
    """The pictures of a class, as seen from the folder; those in folders of its own too."""
    for place, _, files in os.walk(folder / name):
        inner = os.path.relpath(place, folder)
        yield from (f"{inner}/{file}" for file in files if _is_picture(file))


def _in_turn(files_by_class: Sequence[Sequence[str]]) -> Iterator[tuple[int, str]]:
    """(class, file): the first of each class, then the second of each that has one, and so on."""
    for turn in range(max(map(len, files_by_class))):
        for number, files in enumerate(files_by_class):
            if turn < len(files):
                yield number, files[turn]


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and name.rpartition(".")[2].lower() in PICTURE_EXTENSIONS
