"""What every data SPEC shares: the forms it may have, and the error for a path that is not there."""

import difflib
from pathlib import Path

FORMS = (
    "samples:NAME[/SPLIT], FILE.tar, a folder of .tar files, DIR/{00000..00099}.tar, FILE.csv, FILE.tsv, FILE.txt, "
    "coco:FILE.json@DIR, karpathy:FILE.json[/SPLIT]@DIR, folder:DIR, or a mixture such as 'SPEC*2 + SPEC*1'"
)


def no_such_path(path: Path) -> ValueError:
    """The error for a path that is not there, with the nearest name that is."""
    seen_from = "" if path.is_absolute() else f" in {Path.cwd()}"
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=1)
    remedy = f"did you mean '{path.parent / close[0]}'?" if close else f"a SPEC is {FORMS}"
    return ValueError(f"no such data '{path}'{seen_from}: {remedy}")


def existing(text: str, kind: str) -> Path:
    """The path of a "file" or "folder" in a SPEC.

    Raises:
        ValueError: there is nothing, or something else.
    """
    path = Path(text).expanduser()
    if not path.exists():
        raise no_such_path(path)
    if not (path.is_dir() if kind == "folder" else path.is_file()):
        raise ValueError(f"'{path}' is no {kind}: a SPEC is {FORMS}")
    return path
