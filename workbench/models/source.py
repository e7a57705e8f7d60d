"""What a person names when a trained model is wanted: a run, one of its checkpoints, a model folder, or any SPEC."""

from difflib import get_close_matches
from pathlib import Path

from workbench.config.nearest import unknown
from workbench.models.clip import Clip
from workbench.models.folder import load_folder
from workbench.models.spec import is_weights_file, load_model, run_folder
from workbench.runs.checkpoints import MANIFEST, read_manifest
from workbench.runs.directory import RunDirectory, list_runs


def find_folder(source: str | Path, runs_dir: Path = Path("runs")) -> Path | None:
    """The folder that holds a source's model; None where the source is a SPEC of another kind.

    Raises:
        ValueError: the run has no whole checkpoint, the checkpoint is damaged, or a run's name is misspelt.
    """
    name = str(source)
    if name.startswith("run:") or any(RunDirectory(path).exists for path in (runs_dir / name, Path(name))):
        return run_folder(name.removeprefix("run:"), runs_dir)
    folder = Path(name)
    if folder.is_dir():
        if (folder / MANIFEST).exists():
            read_manifest(folder)
        return folder
    if ":" not in name and not is_weights_file(name):
        ids = [run.id for run in list_runs(runs_dir)]
        if get_close_matches(name, ids, n=1):
            raise unknown("run or model", name, ids)
    return None


def load_student(source: str | Path, runs_dir: Path = Path("runs")) -> Clip:
    """A trained student in eval mode: ``encode_image`` takes uint8 pictures, ``tokenizer`` captions.

    Args:
        source: a run's id or directory (its newest checkpoint), a checkpoint, a model folder, or a model SPEC.

    Raises:
        ValueError: there is nothing to load at ``source``, or it is damaged.
    """
    folder = find_folder(source, runs_dir)
    return (load_folder(folder) if folder else load_model(str(source), runs_dir=runs_dir)).eval()
