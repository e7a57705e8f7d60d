"""``folder:DIR``: one class per sub-folder, captions made from its name."""

import json
import os
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from workbench.data.captions import cleaned
from workbench.data.dataset import ZeroShotTask, existing
from workbench.data.sources.files import ImageFiles, ImageList
from workbench.data.sources.imagenet import imagenet_names, imagenet_templates
from workbench.data.sources.objectnet import objectnet_names
from workbench.data.sources.tar_index import IMAGE_EXTENSIONS
from workbench.data.unusable import Reading
from workbench.documents import read_json
from workbench.progress import with_bar
from workbench.prompts import CAPTION, fill, is_id, words_of

NAMES_FILE = "classes.json"
TEMPLATES_FILE = "templates.json"
MANY_FOLDERS = 50


def open_folder(spec: str, num_pairs: int = 0) -> ImageFiles:
    """The images in a folder's sub-folders, interleaved by class, so that the first images cover all classes.

    Class names come from ``classes.json`` in the folder (``{"n02084071": ["dog", "hound"]}``), else from the
    sub-folder's name as lower-case words. Captions are "a photo of a NAME." for each name of the class. Zero-shot
    templates are the same, or those in ``templates.json`` (``["a photo of a {}.", "a drawing of a {}."]``). The
    sub-folders of ImageNet, its variants and ObjectNet get the papers' names and templates, unless these files have
    others.

    Args:
        num_pairs: use only the first so many images; 0 for all.

    Raises:
        ValueError: no such folder, fewer than two classes with images, two classes with the same name, or templates
            without ``{}``.
    """
    folder = existing(spec, "folder")
    names, imagenet, notes = _class_names(folder)
    given = _templates(folder / TEMPLATES_FILE)
    images = {name: sorted(_images(folder, name)) for name in with_bar(list(names), "listing images", MANY_FOLDERS)}
    filled = [name for name in names if images[name]]
    if len(filled) < 2:
        raise ValueError(
            f"'{folder}' has images in {len(filled)} of its sub-folders, and at least two classes are needed: "
            f"folder:DIR is a folder with a sub-folder of .{', .'.join(IMAGE_EXTENSIONS)} files for each class"
        )
    loose = sum(_is_image(entry.name) for entry in folder.iterdir())
    ignored = [f"left out {loose:,} images of '{folder}' that are in no sub-folder"] if loose else []
    listed, class_N = ImageList(num_pairs), array("q")
    templates = given or (imagenet_templates() if imagenet else (CAPTION,))
    unnamed = sum(is_id(name) and aliases == (words_of(name),) for name, aliases in names.items())
    task = ZeroShotTask(tuple(names.values()), templates, verbatim=imagenet and not given, num_unnamed=unnamed)
    for number, file in islice(_interleaved(list(images.values())), num_pairs or None):
        class_N.append(number)
        for alias in task.classes[number]:
            listed.add(file, fill(CAPTION, alias))
    return ImageFiles(
        listed,
        folder,
        f"folder:{spec}",
        class_N=class_N,
        task=task,
        reading=Reading(notes=(*notes, *ignored)).warn(),
    )


def _class_names(folder: Path) -> tuple[dict[str, tuple[str, ...]], bool, list[str]]:
    """The names of each sub-folder's class, in order, whether prompts are ImageNet's, and notes about them."""
    folders = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    given = _given_names(folder / NAMES_FILE)
    if not given and (imagenet := imagenet_names(folders)):
        note = (
            f"'{folder}' has {len(imagenet):,} classes of ImageNet-1k: zero-shot takes open_clip's class names and "
            f"OpenAI's 80 templates, as the papers do ({NAMES_FILE} and {TEMPLATES_FILE} can name others)"
        )
        return {name: (words,) for name, words in imagenet.items()}, True, [note]
    if not given and (objects := objectnet_names(folder, folders)):
        note = (
            f"'{folder}' is ObjectNet: {len(objects):,} of its {len(folders):,} classes are ImageNet's, and only these "
            f"are read, with OpenAI's 80 templates ({NAMES_FILE} and {TEMPLATES_FILE} can name others)"
        )
        return {name: (words,) for name, words in objects.items()}, True, [note]
    unnamed = [name for name in folders if name not in given]
    notes = []
    if ids := [name for name in unnamed if is_id(name)]:
        notes.append(
            f"{len(ids):,} of {len(folders):,} classes of '{folder}' have a number or an id for a name, first "
            f"{ids[0]!r}, which means nothing to a model: name them in {folder / NAMES_FILE}, as in "
            f'{{{json.dumps(ids[0])}: "dog"}}'
        )
    if given and unnamed:
        notes.append(f"{NAMES_FILE} names none of {len(unnamed):,} sub-folders, first {unnamed[0]!r}")
    names = {name: given.get(name) or (words_of(cleaned(name)) or name,) for name in folders}
    uses = Counter(alias for aliases in names.values() for alias in set(aliases))
    if shared := [alias for alias, count in uses.items() if count > 1]:
        owners = [name for name, aliases in names.items() if shared[0] in aliases]
        raise ValueError(
            f"the sub-folders {owners[0]!r} and {owners[1]!r} of '{folder}' are both called {shared[0]!r}: "
            f"give them different names in {NAMES_FILE}"
        )
    return names, False, notes


def _templates(path: Path) -> tuple[str, ...]:
    """The templates in the file; none if it does not exist."""
    if not path.exists():
        return ()
    try:
        listed = read_json(path)
    except OSError as error:
        raise ValueError(f"'{path}' cannot be read ({error.strerror}): check its permissions") from error
    except ValueError:
        listed = None
    is_list = isinstance(listed, list) and listed
    if not is_list or not all(isinstance(one, str) and one.count("{}") == 1 for one in listed):
        raise ValueError(
            f"'{path}' must be a list of prompts, each with one {{}} for the class name, as in "
            '["a photo of a {}.", "a drawing of a {}."]'
        )
    return tuple(dict.fromkeys(listed))


def _given_names(path: Path) -> dict[str, tuple[str, ...]]:
    """``{sub-folder: names}`` from the file; empty if it does not exist."""
    if not path.exists():
        return {}
    try:
        document = read_json(path)
        if not isinstance(document, dict):
            raise ValueError("not an object")
        return {folder: _aliases(names) for folder, names in document.items()}
    except OSError as error:
        raise ValueError(f"'{path}' cannot be read ({error.strerror}): check its permissions") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f'\'{path}\' must map sub-folders to a name or a list of names, as in {{"n02084071": ["dog", "hound"]}}'
        ) from error


def _aliases(names: object) -> tuple[str, ...]:
    given = [names] if isinstance(names, str) else names
    if not isinstance(given, list) or not given or not all(isinstance(name, str) and cleaned(name) for name in given):
        raise ValueError("no name")
    return tuple(dict.fromkeys(cleaned(name) for name in given))


def _images(folder: Path, name: str) -> Iterator[str]:
    """The images of a class, relative to the folder; includes nested folders."""
    for parent, _, files in os.walk(folder / name):
        inner = os.path.relpath(parent, folder)
        yield from (f"{inner}/{file}" for file in files if _is_image(file))


def _interleaved(files_by_class: Sequence[Sequence[str]]) -> Iterator[tuple[int, str]]:
    """(class index, file): the first file of each class, then the second of each, and so on."""
    for turn in range(max(map(len, files_by_class))):
        for number, files in enumerate(files_by_class):
            if turn < len(files):
                yield number, files[turn]


def _is_image(name: str) -> bool:
    return not name.startswith(".") and name.rpartition(".")[2].lower() in IMAGE_EXTENSIONS
