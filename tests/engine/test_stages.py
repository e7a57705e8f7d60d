"""A run that inherits: its phases, what they leave, and that an interruption anywhere changes no bit of it."""

import json
import random
from pathlib import Path

import pytest
import tomli_w
import torch

from workbench.config.inheritance import Plan
from workbench.engine.build import build_cohort
from workbench.engine.launch import launch, relaunch
from workbench.engine.loop import train
from workbench.events import CheckpointSaved, EvalDone, RunFinished, RunStarted, StageStarted, StepDone
from workbench.inheritance import inherit
from workbench.inheritance.inheritance_map import InheritanceMap
from workbench.models.configs import tower_shape
from workbench.models.folder import load_folder, save_folder
from workbench.models.spec import load_model
from workbench.models.weights import weights_sha256
from workbench.runs.checkpoints import checkpoint_step, newest_checkpoint, read_manifest
from workbench.runs.directory import find_run
from workbench.runs.snapshots import MaskSnapshot, read_snapshots
from workbench.runs.summary import read_summary

SOURCE = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 24, "layers": 3, "head_width": 6, "mlp_ratio": 2},
    "text_cfg": {"context_length": 20, "width": 16, "heads": 4, "layers": 2, "mlp_ratio": 2},
    "tokenizer": "words:scenes",
}
# Gates that close within a few steps: their rate is a hundred times TinyCLIP's.
GATES = {"ramp_steps": 3, "learning_rate": 2.0}
STAGES = [
    {"sparsity": 0.3, "num_steps": 7, "mask_steps": 5, **GATES},
    {"sparsity": 0.6, "num_steps": 5, "mask_steps": 3, **GATES},
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("source")
    (folder / "source.json").write_text(json.dumps(SOURCE))
    save_folder(load_model(f"config:{folder / 'source.json'}", seed=5), folder / "model")
    return str(folder / "model")


@pytest.fixture
def heir(tiny, source: str):
    """``heir(**inheritance)``: a run of 12 steps whose student inherits from a teacher of 3 and 2 layers."""

    def make(changes: dict[str, object] | None = None, **inheritance: object):
        return tiny(
            student={"model": "inherited"}, teacher={"model": source}, inheritance=inheritance, **(changes or {})
        )

    return make


def trained(config, runs: Path, name: str = "run"):
    started = launch({name: config}, runs)
    return started.cohort.members[0], list(started.events())


def test_stages_say_what_they_do_and_leave_what_they_promise(heir, tmp_path: Path) -> None:
    member, events = trained(heir(stages=STAGES), tmp_path)
    stages = [event for event in events if isinstance(event, StageStarted)]
    assert [(stage.step, stage.until, stage.stage, stage.learns_masks) for stage in stages] == [
        (0, 5, 0, True),
        (5, 7, 0, False),
        (7, 10, 1, True),
        (10, 12, 1, False),
    ]
    sizes = [stage.num_parameters for stage in stages]
    assert sizes[0] > sizes[1] == sizes[2] > sizes[3]
    assert isinstance(events[-1], RunFinished)
    assert events[-1].state == "finished"
    student, teacher = load_model("run:run", runs_dir=tmp_path), load_model(member.config.teacher.model)

    def block_weights(model):
        return sum(tower_shape(model.config, tower).block_weights for tower in ("image", "text"))

    share = block_weights(student) / block_weights(teacher)
    assert 0.35 < share <= 0.4
    assert member.inheritance_map.sparsity == pytest.approx(1 - share)
    assert sum(p.numel() for p in student.towers.parameters()) == sizes[3]
    assert [stage.kept_fraction for stage in stages[-1:]] == [pytest.approx(share)]
    assert read_summary(find_run(tmp_path, "run")).kept_fraction == pytest.approx(share)


def test_while_masks_are_learned_the_log_has_their_sparsity(heir, tmp_path: Path) -> None:
    _, events = trained(heir({"log": {"every_steps": 1}}, stages=STAGES), tmp_path)
    masks = {event.step: event.masks for event in events if isinstance(event, StepDone)}
    assert [step for step, numbers in masks.items() if numbers] == [1, 2, 3, 4, 5, 8, 9, 10]
    assert [masks[step]["target"] for step in (1, 3, 5)] == pytest.approx([0.1, 0.3, 0.3])
    assert masks[5]["sparsity"] > masks[1]["sparsity"] >= 0
    snapshots = read_snapshots(find_run(tmp_path, "run"), MaskSnapshot).snapshots
    assert [(kept.step, kept.stage, kept.learning) for kept in snapshots] == [
        *[(step, 0, True) for step in range(5)],
        (5, 0, False),
        *[(step, 1, True) for step in (7, 8, 9)],
        (10, 1, False),
        (12, 1, False),
    ]
    for kept in snapshots:
        if kept.learning and kept.step not in (0, 7):
            assert kept.sparsity == pytest.approx(masks[kept.step]["sparsity"])
            assert kept.target == pytest.approx(masks[kept.step]["target"])


def test_what_one_stage_cut_off_stays_off_in_the_next(heir, tmp_path: Path) -> None:
    trained(heir(stages=STAGES), tmp_path)
    first, last, _ = (
        kept for kept in read_snapshots(find_run(tmp_path, "run"), MaskSnapshot).snapshots if not kept.learning
    )
    assert (first.stage, last.stage) == (0, 1)
    assert first.sparsity >= 0.3
    assert last.sparsity >= 0.6
    for tower, mask in last.towers.items():
        before = first.towers[tower]
        for own, earlier in zip(
            (mask.embedding_C, *mask.heads, *mask.channels),
            (before.embedding_C, *before.heads, *before.channels),
            strict=True,
        ):
            assert set(own) <= {0, 1}
            assert (own <= earlier).all()


def test_before_its_first_step_the_student_is_measured(heir, source: str, tmp_path: Path) -> None:
    plan = {"image": {"depth": 2}, "text": {"heads": 2}}
    _, events = trained(heir(**plan), tmp_path)
    first = next(event for event in events if isinstance(event, EvalDone))
    assert first.step == 0
    assert isinstance(events[0], RunStarted)
    (kept,) = read_snapshots(find_run(tmp_path, "run"), MaskSnapshot).snapshots
    assert (kept.step, kept.learning) == (0, False)
    assert [layer.sum() for layer in kept.towers["image"].heads] == [4, 0, 4]
    assert [layer.sum() for layer in kept.towers["text"].heads] == [2, 2]
    student = inherit(load_folder(Path(source)), Plan.parse(plan))
    config = heir(**plan)
    measured = build_cohort({"run": config}).evaluators["validation"]
    member = build_cohort({"run": config}).members[0]
    assert weights_sha256(member.state.student.towers) == weights_sha256(student.towers)
    again = measured.measure(student, member.state.learned, member.objective.losses)
    assert again.metrics == pytest.approx(first.metrics)


@pytest.mark.parametrize("stop_after", [2, 5, 6, 7, 9, 10, 11])
def test_an_interruption_in_any_phase_changes_no_bit(heir, tmp_path: Path, stop_after: int) -> None:
    config = heir(
        {"loss": {"intermediate": {"weight": 1.0, "student_blocks": [-1], "teacher_blocks": [-1]}}}, stages=STAGES
    )
    calls = iter(range(100))
    *_, end = launch({"run": config}, tmp_path).events(lambda: next(calls) + 1 == stop_after)
    assert (end.state, end.step) == ("interrupted", stop_after)
    resumed = relaunch(find_run(tmp_path, "run"))
    for _ in resumed.events():
        pass
    full, _ = trained(config, tmp_path, "full")
    assert weights_sha256(resumed.cohort.members[0].state) == weights_sha256(full.state)
    assert resumed.cohort.members[0].inheritance_map == full.inheritance_map


def test_a_checkpoint_among_masks_is_the_model_that_is_left(heir, tmp_path: Path) -> None:
    calls = iter(range(100))
    started = launch({"run": heir(stages=STAGES)}, tmp_path)
    events = list(started.events(lambda: next(calls) == 3))
    saved = [event for event in events if isinstance(event, CheckpointSaved)][-1]
    gated = started.cohort.members[0].state.student.eval()
    left = load_folder(Path(saved.path)).eval()
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (4, 3, 16, 16), generator=generator, dtype=torch.uint8)
    text = left.tokenizer(["a red circle", "two blue squares", "", "a green star left of a red one"])
    with torch.no_grad():
        for one, other in zip(
            vars(left.embed(image, text)).values(), vars(gated.embed(image, text)).values(), strict=True
        ):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    manifest = read_manifest(newest_checkpoint(find_run(tmp_path, "run")))
    assert InheritanceMap.from_document(manifest["inheritance"]) == started.cohort.members[0].inheritance_map


def test_members_with_stages_of_their_own_end_as_they_do_alone(heir) -> None:
    other = [{"sparsity": 0.4, "num_steps": 12, "mask_steps": 6, **GATES}]
    configs = {
        "two": heir(stages=STAGES),
        "one": heir({"loss": {"clip": {"weight": 0.0}, "affinity": {"weight": 1.0}}}, stages=other),
        "plan": heir(image={"depth": 1}),
    }
    cohort = build_cohort(configs)
    for _ in train(cohort):
        pass
    for name, config in configs.items():
        alone = build_cohort({name: config})
        for _ in train(alone):
            pass
        together = next(member for member in cohort.members if member.run == name)
        assert weights_sha256(together.state) == weights_sha256(alone.members[0].state)


@pytest.mark.parametrize("micro_batch_size", [0, 8])
def test_a_frozen_tower_learns_nothing_and_the_other_does(
    heir, source: str, tmp_path: Path, micro_batch_size: int
) -> None:
    changes = {"train": {"micro_batch_size": micro_batch_size}, "log": {"diagnose_every_steps": 4}}
    member, events = trained(heir(changes, frozen="image", text={"depth": 1}), tmp_path)
    assert events[-1].state == "finished"
    start = inherit(load_folder(Path(source)), Plan.parse({"frozen": "image", "text": {"depth": 1}}))
    ended = member.state.student.towers.state_dict()
    for name, tensor in start.towers.state_dict().items():
        assert torch.equal(tensor, ended[name]) == name.startswith("visual."), name
    assert all(p.grad is None for p in member.state.student.towers.visual.parameters())


def test_gates_do_not_prune_a_frozen_tower(heir, tmp_path: Path) -> None:
    member, events = trained(heir(frozen="text", stages=STAGES), tmp_path)
    assert events[-1].state == "finished"
    assert set(member.inheritance_map.kept) == {"image"}
    assert tower_shape(member.state.student.config, "text").heads == (4, 4)


def test_random_weights_have_the_same_architecture_and_nothing_else(heir) -> None:
    plan = {"image": {"depth": 2, "channels": 24}, "frozen": "text"}
    inherited = build_cohort({"run": heir(**plan)}).members[0].state.student
    random_ = build_cohort({"run": heir(weights="random", **plan)}).members[0].state.student
    again = build_cohort({"run": heir({"seed": 1}, weights="random", **plan)}).members[0].state.student
    assert inherited.config == random_.config
    own, theirs, others = (model.towers.state_dict() for model in (inherited, random_, again))
    assert torch.equal(own["token_embedding.weight"], theirs["token_embedding.weight"])
    for name in ("visual.conv1.weight", "visual.transformer.resblocks.1.mlp.c_fc.weight"):
        assert not torch.equal(own[name], theirs[name])
        assert not torch.equal(theirs[name], others[name])
    assert random_.frozen == ("text",)


def test_a_fork_inside_a_mask_phase_continues_with_the_masks(heir, tmp_path: Path) -> None:
    from workbench.engine.fork import plan_fork

    trained(heir({"log": {"keep_checkpoints": 5}}, stages=STAGES), tmp_path)
    run = find_run(tmp_path, "run")
    assert checkpoint_step(newest_checkpoint(run)) == 12
    for at, expected in ((4, True), (8, True)):
        fork = plan_fork(run, at=at, overrides=["loss.icl.weight=0"]).launch(f"fork-{at}")
        member = fork.cohort.members[0]
        assert (member.state.gates is not None) == expected
        events = list(fork.events())
        assert events[-1].state == "finished"
        assert member.inheritance_map.sparsity >= 0.6


@pytest.mark.parametrize(
    ("inheritance", "words"),
    [
        ({"image": {"depth": 9}}, "image tower: depth 9: .*"),
        ({"source": "sample:nothing"}, ".*inheritance.source=SPEC.*"),
        ({"image": {"depth": 1}, "text": {"depth": 1}, "stages": STAGES}, "sparsity 0.3 is already met: .*"),
    ],
)
def test_what_cannot_be_inherited_is_one_line(heir, inheritance, words) -> None:
    with pytest.raises(ValueError, match=rf"\A{words}\Z"):
        build_cohort({"run": heir(**inheritance)})


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_among_masks_it_ends_as_an_undisturbed_run(heir, train_and_kill, tmp_path: Path, seed: int) -> None:
    """SIGKILL at a random moment, twice; what is resumed in the end is bit-identical."""
    config = heir({"log": {"every_steps": 1, "checkpoint_every_steps": 2}}, stages=STAGES)
    (tmp_path / "heir.toml").write_text(tomli_w.dumps(config.model_dump(mode="json")))
    draw = random.Random(seed)
    train_and_kill(tmp_path / "heir.toml", draw.randrange(3, 14), draw.randrange(3, 14))
    resumed = relaunch(find_run(tmp_path, "run"))
    for _ in resumed.events():
        pass
    full, _ = trained(config, tmp_path, "full")
    assert weights_sha256(resumed.cohort.members[0].state) == weights_sha256(full.state)
