"""The papers' own sizes, from a teacher file wrapped as their released files are."""

from pathlib import Path

import open_clip
import pytest
import torch

from workbench.engine.build import build_cohort
from workbench.engine.loop import train
from workbench.events import StepDone


@pytest.mark.slow
def test_a_wrapped_vit_b_16_distils_into_vit_t_16(tiny, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = open_clip.create_model("ViT-B-16").state_dict()
    wrapped = {"epoch": 32, "state_dict": {f"module.{name}": tensor for name, tensor in theirs.items()}}
    torch.save(wrapped, tmp_path / "teacher.pt")
    config = tiny(
        student={"model": "open_clip:ViT-T-16"},
        teacher={"model": f"open_clip:ViT-B-16@{tmp_path / 'teacher.pt'}", "chunk_size": 4},
        data={"num_pairs": 8, "validation": ""},
        train={"num_steps": 3, "batch_size": 4, "micro_batch_size": 2},
        log={"every_steps": 1},
    )
    cohort = build_cohort({"run": config})
    (member,) = cohort.members
    vision = member.state.student.towers.visual
    assert (vision.transformer.width, vision.transformer.layers) == (192, 12)
    assert cohort.teacher is not None
    assert cohort.teacher.input_spec.image_size == member.state.student.input_spec.image_size == 224
    losses = [event.loss for event in train(cohort) if isinstance(event, StepDone)]
    assert len(losses) == 3
    assert losses[2] < losses[0]
    assert torch.equal(cohort.teacher._model.towers.state_dict()["visual.proj"], theirs["visual.proj"])
