"""Inner features cross architectures: every pairing of ViT and ResNet trains, and the loss falls."""

import json

import pytest

from workbench.engine.build import build_cohort
from workbench.engine.loop import train
from workbench.events import StepDone
from workbench.models.folder import save_folder
from workbench.models.spec import load_model

VISION = {
    "vit": {"image_size": 32, "patch_size": 8, "width": 16, "layers": 3, "head_width": 8},
    "resnet": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16},
}
TEXT = {"context_length": 20, "width": 16, "heads": 2, "layers": 1}
BLOCKS = {"vit": [0, -1], "resnet": [2, 3]}


def config_file(folder, tower: str, embed_dim: int) -> str:
    path = folder / f"{tower}-{embed_dim}.json"
    config = {"embed_dim": embed_dim, "vision_cfg": VISION[tower], "text_cfg": TEXT, "tokenizer": "words:scenes"}
    path.write_text(json.dumps(config))
    return f"config:{path}"


@pytest.mark.parametrize("form", ["tokens", "pooled"])
@pytest.mark.parametrize("teacher", ["vit", "resnet"])
@pytest.mark.parametrize("student", ["vit", "resnet"])
def test_features_are_matched(tiny, tmp_path, student: str, teacher: str, form: str) -> None:
    save_folder(load_model(config_file(tmp_path, teacher, 24), seed=5), tmp_path / "teacher")
    intermediate = {"weight": 1.0, "student_blocks": BLOCKS[student], "teacher_blocks": BLOCKS[teacher], "form": form}
    config = tiny(
        data={"validation": ""},
        student={"model": config_file(tmp_path, student, 16)},
        teacher={"model": str(tmp_path / "teacher")},
        train={"num_steps": 15},
        optimizer={"learning_rate": 1e-2},
        log={"every_steps": 1},
        loss={"crd": {"weight": 0}, "fd": {"weight": 0}, "icl": {"weight": 0}, "intermediate": intermediate},
    )
    terms = [e.terms["intermediate"] for e in train(build_cohort({"run": config})) if isinstance(e, StepDone)]
    assert terms[-1] < 0.9 * terms[0]
