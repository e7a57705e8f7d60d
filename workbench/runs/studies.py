"""Studies: finding them by name or file, in the runs folder or from their runs, and the runs of each."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import tomli_w

from workbench.config.study import QUICK, QUICK_STEPS, VARIED, CellConfig, Origin, Study, read_origin
from workbench.config.toml import MOST_EXTENDED, extended_table, read_toml
from workbench.errors import unknown
from workbench.files import resolved, write_atomically
from workbench.resources import find_resource, list_resources
from workbench.runs.directory import RunDirectory, list_runs

FOLDER = "studies"  # in the runs folder: databases, and copies of the studies that were run


def studies() -> dict[str, Path]:
    """All studies by name: those in ``./studies``, in the working directory, and shipped ones, in this precedence."""
    listed = list_resources("studies", ".toml")
    folder = Path.cwd()
    loose = {path.stem: path for path in sorted(folder.glob("*.toml")) if is_study(path)}
    own = {name: path for name, path in listed.items() if path.parent == folder / "studies"}
    return listed | loose | own


def is_study(path: Path, seen: tuple[Path, ...] = ()) -> bool:
    """Whether a TOML file is a study rather than a recipe: it varies something, or extends a study."""
    try:
        table = read_toml(path)
    except ValueError:
        return False
    if any(table.get(varied) for varied in VARIED):
        return True
    parent, above = str(table.get("extends", "")), (*seen, resolved(path))
    if not parent.endswith(".toml"):
        return bool(parent) and find_resource(f"studies/{parent}.toml") is not None
    if len(above) > MOST_EXTENDED:
        return False
    beneath = path.parent / parent
    return resolved(beneath) not in above and is_study(beneath, above)


def load_study(name_or_file: str) -> Study:
    """The study of this name or in this file, with everything that it extends merged."""
    path = _study_path(name_or_file)
    table = {"name": path.name.removesuffix(".toml")}
    table |= extended_table(name_or_file, "study", _study_path, _named)
    try:
        return Study.parse(table)
    except ValueError as error:
        raise ValueError(f"study {path}: {error}") from None


def stored_name(study: Study, name: str = "", *, quick: bool = False) -> str:
    """Name of a study in the runs folder: its own or the given one; rehearsals have a suffix."""
    return (name or study.name) + (QUICK if quick else "")


def _named(parent: str) -> Path:
    """The study extended by name, in a ``studies`` folder only, so that a file can extend a study of its own name."""
    path = find_resource(f"studies/{parent}.toml")
    if path is None:
        raise unknown("study", parent, list_resources("studies", ".toml"))
    return path


def _study_path(name_or_file: str) -> Path:
    if name_or_file.endswith(".toml"):
        return Path(name_or_file)
    known = studies()
    if name_or_file not in known:
        raise unknown("study", name_or_file, known)
    return known[name_or_file]


class Found(NamedTuple):
    """A study found by name.

    Attributes:
        source: the name or file to load it by; for a rehearsal, that of the study.
        has_file: False if its file is gone and it was reconstructed from its runs, without question, baseline and
            published figures.
    """

    study: Study
    source: str
    has_file: bool = True


@dataclass(frozen=True)
class StudyRun:
    """A run and its origin in a study."""

    run: RunDirectory
    origin: Origin


def find_study(name_or_file: str, runs_dir: Path) -> Found:
    """The study of this name: from a file in the working directory or ``./studies``, a shipped study, the copy that its
    sweep left in the runs folder, or reconstructed from its runs.

    Raises:
        ValueError: there is none, or its file is invalid; in one line with the remedy.
    """
    own, known = name_or_file.removesuffix(QUICK), studies()
    if name_or_file.endswith(".toml") or name_or_file in known:
        return Found(load_study(name_or_file), name_or_file)
    if own in known:
        return Found(load_study(own).quick(), own)
    if kept := _from_copy(name_or_file, runs_dir):
        return kept
    if runs := counted(runs_of_study(runs_dir, name_or_file)):
        return Found(_from_runs(name_or_file, runs), name_or_file, has_file=False)
    raise unknown("study", name_or_file, known_studies(runs_dir))


def find_trainable(name_or_file: str, runs_dir: Path) -> Study:
    """:func:`find_study` for studies with a file; one reconstructed from its runs cannot be trained further.

    A rehearsal has its own name, with the suffix, so that its runs do not mix with those of its study.
    """
    match = find_study(name_or_file, runs_dir)
    if not match.has_file:
        raise ValueError(f"{runs_dir} has runs of study '{name_or_file}', but its file was not found: name FILE.toml")
    is_rehearsal = match.source != name_or_file
    return match.study.model_copy(update={"name": name_or_file}) if is_rehearsal else match.study


def known_studies(runs_dir: Path) -> list[str]:
    """Names that :func:`find_study` accepts, without rehearsals and the parts of a search."""
    files = (runs_dir / FOLDER).glob("*.toml")
    copies = {path.stem.removesuffix(QUICK) if _is_rehearsal(path) else path.stem for path in files}
    known = {*studies(), *copies}
    # The parts of a search, such as its tuned rivals, are studies whose names start with its own.
    alone = [name for name in studies_with_runs(runs_dir) if not any(name.startswith(f"{one}-") for one in known)]
    names = [*known, *(name for name in alone if not any(name.startswith(f"{other}-") for other in alone))]
    return sorted({name for name in names if name.removesuffix(QUICK) == name or name.removesuffix(QUICK) not in known})


def copy_of(name: str, runs_dir: Path) -> Path:
    """Path of the copy of a study that its sweep saves."""
    return runs_dir / FOLDER / f"{name}.toml"


def as_run(study: Study, name: str, runs_dir: Path) -> Study:
    """The study with the margin, and the rule for the number of seeds, that its runs followed: those of its copy."""
    copy = _saved(name, runs_dir)
    return study if copy is None else study.model_copy(update={"margin": copy.margin, "most_seeds": copy.most_seeds})


def _saved(name: str, runs_dir: Path) -> Study | None:
    try:
        return load_study(str(copy_of(name, runs_dir))) if copy_of(name, runs_dir).is_file() else None
    except ValueError:  # of another version
        return None


def save_copy(study: Study, name: str, runs_dir: Path) -> None:
    """Save a copy of the study in the runs folder, so that it is found without its own file."""
    before = _saved(name, runs_dir)
    # Once results have decided on the number of seeds, later seeds do not undo it.
    most = max(study.most_seeds, before.most_seeds if before else 0)
    table = study.model_copy(update={"name": name, "most_seeds": most}).model_dump(mode="json", exclude_none=True)
    file = copy_of(name, runs_dir)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, tomli_w.dumps(table))


def _from_copy(name: str, runs_dir: Path) -> Found | None:
    """The study (or its rehearsal) of this name from a copy in the runs folder; None if there is none.

    If only the rehearsal has a copy, the study is the rehearsal, which is no file to train the study from.
    """
    own = name.removesuffix(QUICK)
    copy, quick = copy_of(name, runs_dir), copy_of(own + QUICK, runs_dir)
    if copy.is_file() and not _is_rehearsal(copy):
        return Found(load_study(str(copy)), name)
    if _is_rehearsal(quick):
        study = load_study(str(quick)).model_copy(update={"name": own})
        return Found(study, own, has_file=name != own)
    if copy_of(own, runs_dir).is_file():
        return Found(load_study(str(copy_of(own, runs_dir))).quick(), own)
    return None


def _is_rehearsal(copy: Path) -> bool:
    """Whether a copy is that of a rehearsal, and not of a study whose own name has the suffix."""
    try:
        return copy.stem.endswith(QUICK) and read_toml(copy).get("steps") == QUICK_STEPS
    except ValueError:
        return False


def _from_runs(name: str, runs: list[StudyRun]) -> Study:
    """A study reconstructed from its runs."""
    cells = {one.origin.cell: CellConfig(name=one.origin.cell, settings=one.origin.values) for one in runs}
    seeds = {one.origin.seed for one in runs}
    recipe = str(read_toml(runs[0].run.config_file).get("recipe", "baseline"))
    return Study(name=name, question="", recipe=recipe, cells=list(cells.values()), seeds=len(seeds))


def runs_of_study(runs_dir: Path, study: str) -> list[StudyRun]:
    """All runs of the study, sorted by cell, seed and attempt; unreadable ``run.toml`` files are skipped.

    A cell and seed may have several attempts; those before the last were abandoned.
    """
    runs = [one for one in _runs_of_studies(runs_dir) if one.origin.study == study]
    return sorted(runs, key=lambda one: (one.origin.trial, one.origin.seed, one.origin.attempt))


def studies_with_runs(runs_dir: Path) -> list[str]:
    """Names of the studies with runs in the folder."""
    return sorted({one.origin.study for one in _runs_of_studies(runs_dir)})


def _runs_of_studies(runs_dir: Path) -> Iterator[StudyRun]:
    for run in list_runs(runs_dir):
        try:
            origin = read_origin(run.config_file)
        except ValueError:
            continue
        if origin is not None:
            yield StudyRun(run, origin)


def counted(runs: list[StudyRun]) -> list[StudyRun]:
    """One run per cell and seed: the last attempt, which is the one that its trial records."""
    return list({(one.origin.cell, one.origin.seed): one for one in runs}.values())
