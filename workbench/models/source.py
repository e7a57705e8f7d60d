"""Loading a trained model by run, checkpoint, model folder or SPEC."""

from pathlib import Path

from workbench.models.clip import Clip
from workbench.models.folder import load_folder
from workbench.models.names import find_folder
from workbench.models.spec import load_model


def load_student(source: str | Path, runs_dir: Path = Path("runs")) -> Clip:
    """A trained student in eval mode: ``encode_image`` takes uint8 images, ``tokenizer`` captions.

    Args:
        source: a run's id or directory (its newest checkpoint), a checkpoint, a model folder, or a model SPEC.

    Raises:
        ValueError: there is no model at ``source``, or it is damaged.
    """
    folder = find_folder(source, runs_dir)
    return (load_folder(folder) if folder else load_model(str(source), runs_dir=runs_dir)).eval()
