"""A ``model_type`` of CLIP_benchmark (github.com/LAION-AI/CLIP_benchmark) for every model that the workbench loads.

``python -m workbench.models.clip_benchmark eval --pretrained RUN ...`` is ``clip_benchmark eval ...`` with the
``model_type`` "workbench": ``--pretrained`` is a run, a checkpoint, a model folder, a weights file or another SPEC.
Unevenly pruned students, which open_clip alone cannot build, are measured like any other.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from workbench.models.spec import load_student

MODEL_TYPE = "workbench"
Tokenize = Callable[[Sequence[str]], Tensor]
REMEDY = "CLIP_benchmark is not installed: pip install 'clip-distillation-workbench[clip_benchmark]'"


def load_for_clip_benchmark(
    model_name: str = "", pretrained: str = "", cache_dir: str | None = None, device: str | torch.device = "cpu"
) -> tuple[nn.Module, Callable[[Any], Tensor], Tokenize]:
    """The model, its evaluation transform and its tokenizer, as CLIP_benchmark's ``load_clip`` returns them.

    The towers take normalized images [B, 3, H, W] and token ids [B, L]. The transform is open_clip's, with the model's
    own size, resizing and normalization, as ``workbench evaluate`` has them.

    Args:
        model_name: only names the model in results.
        pretrained: a run's id in ``runs`` or its directory, a checkpoint, a model folder, or a model SPEC.
        cache_dir: not used: nothing is downloaded.

    Raises:
        ValueError: there is no model.
    """
    del model_name, cache_dir
    student = load_student(pretrained)
    transform = open_clip.image_transform(
        student.image_size,
        is_train=False,
        mean=student.mean,
        std=student.std,
        resize_mode=student.resizing.mode,
        interpolation=student.resizing.interpolation,
    )
    return student.towers.to(device), transform, student.tokenizer


def register() -> None:
    """Make ``--model_type workbench`` known to CLIP_benchmark in this process.

    Raises:
        ValueError: it is not installed.
    """
    try:
        from clip_benchmark import models
    except ModuleNotFoundError as error:
        raise ValueError(REMEDY if error.name == "clip_benchmark" else f"{REMEDY} ({error})") from None
    models.TYPE2FUNC[MODEL_TYPE] = load_for_clip_benchmark
    # The list itself is what its command line imports and checks --model_type with.
    if MODEL_TYPE not in models.MODEL_TYPES:
        models.MODEL_TYPES.append(MODEL_TYPE)


def with_model_type(arguments: Sequence[str]) -> list[str]:
    """The arguments of ``clip_benchmark eval``, with the options that name the model type where none is given."""
    if arguments[:1] != ["eval"]:
        return list(arguments)
    given = {argument.partition("=")[0] for argument in arguments}
    defaults = {"--model_type": MODEL_TYPE, "--model": MODEL_TYPE}
    added = [word for option, value in defaults.items() if option not in given for word in (option, value)]
    return [*arguments, *added]


def main() -> None:
    """CLIP_benchmark's own command line."""
    try:
        register()
    except ValueError as error:
        sys.exit(f"workbench: {error}")
    from clip_benchmark.cli import main as run

    sys.argv = ["clip_benchmark", *with_model_type(sys.argv[1:])]
    run()


if __name__ == "__main__":
    main()
