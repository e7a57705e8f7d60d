"""Runs with several teachers, each with its own resolution, normalization and tokenizer: live, cached and resumed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import TINY
from workbench.config.run import RunConfig
from workbench.engine.build import build_cohort
from workbench.engine.compare_models import compare_models
from workbench.engine.launch import launch, relaunch
from workbench.engine.loop import train
from workbench.engine.remeasure import remeasure
from workbench.engine.teacher_cache.prepare import prepare_cache
from workbench.engine.teacher_cache.store import JoinedCaches
from workbench.events import StepDone
from workbench.models.folder import save_folder
from workbench.models.spec import load_model
from workbench.models.teacher_group import TeacherGroup
from workbench.models.weights import weights_sha256
from workbench.preflight.doctor import examine_run
from workbench.runs.checkpoints import newest_checkpoint, read_manifest
from workbench.runs.summary import summarize


@pytest.fixture(scope="session")
def other_teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A teacher with another width, image size, tokenizer, normalization and scale."""
    folder = tmp_path_factory.mktemp("other")
    config = TINY | {"embed_dim": 32, "tokenizer": "words:emoji"}
    config["vision_cfg"] = TINY["vision_cfg"] | {"image_size": 24}
    (folder / "other.json").write_text(json.dumps(config))
    model = load_model(f"config:{folder / 'other.json'}", seed=7)
    model.mean, model.std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    torch.nn.init.constant_(model.towers.logit_scale, 3.5)
    save_folder(model, folder / "teacher")
    return str(folder / "teacher")


@pytest.fixture
def pair(tiny: Callable[..., RunConfig], tiny_models: dict[str, str], other_teacher: str) -> Callable[..., RunConfig]:
    """``pair(cache="on", **changes)``: a run of six steps with two teachers."""

    def config(cache: str = "off", **changes) -> RunConfig:
        spec = f"{tiny_models['teacher']}*2 + {other_teacher}"
        settings = {"teacher": {"model": spec, "cache": cache}, "data": {"views": 2}, "train": {"num_steps": 6}}
        return tiny(**(settings | changes))

    return config


def sha_of(config: RunConfig) -> str:
    cohort = build_cohort({"run": config})
    for _ in train(cohort):
        pass
    return weights_sha256(cohort.members[0].state)


def test_each_teacher_embeds_its_own_view_of_a_batch(pair: Callable[..., RunConfig]) -> None:
    """The group's logits are the mean over each model's own, of the crops and captions in its form, in float64."""
    cohort = build_cohort({"run": pair()})
    batch = cohort.stream.batch(0)
    assert [inputs.image_BCHW.shape[-1] for inputs in batch.teachers] == [16, 24]
    assert batch.teachers[0].image_BCHW is batch.student_image_BCHW
    assert not torch.equal(batch.teachers[0].text_BL, batch.teachers[1].text_BL)
    found = cohort.teacher_forward(batch, 0).embeddings
    expected = 0.0
    for (spec, weight), inputs in zip(pair().teacher.teachers, batch.teachers, strict=True):
        model = load_model(spec).double().eval()
        with torch.no_grad():
            image_BD, text_BD = model.encode_image(inputs.image_BCHW), model.encode_text(inputs.text_BL)
        rows = [torch.nn.functional.normalize(part.double(), dim=1) for part in (image_BD, text_BD)]
        expected = expected + weight / 3 * model.scale * rows[0] @ rows[1].T
    logits = found.scale.double() * found.image_BD.double() @ found.text_BD.double().T
    torch.testing.assert_close(logits, expected.detach(), atol=1e-4, rtol=1e-4)
    assert (found.width, cohort.teacher.width) == (56, 56)


@pytest.mark.slow
def test_each_way_of_combining_trains_alike_in_one_batch_and_in_parts(pair: Callable[..., RunConfig]) -> None:
    ends = {}
    for combine in ("logits", "affinities", "embeddings"):
        losses = {"clip": {}, "crd": {}, "affinity": {}, "dark": {}, "fd": {}, "gd": {"weight": 1e-4}, "icl": {}}
        table = pair(loss=losses).model_dump(mode="json")
        table["teacher"] |= {"combine": combine, "scales": [20.0, 40.0]}
        whole, parts = (table | {"train": table["train"] | {"micro_batch_size": size}} for size in (0, 7))
        cohorts = [build_cohort({"run": RunConfig.parse(one)}) for one in (whole, parts)]
        batch = cohorts[0].stream.batch(0)
        for cohort in cohorts:
            cohort.train_step(batch, cohort.teacher_forward(batch, 0), 0)
        one, other = (dict(cohort.members[0].state.named_parameters()) for cohort in cohorts)
        for name, value in one.items():
            torch.testing.assert_close(value.grad, other[name].grad, rtol=1e-3, atol=1e-5)
        ends[combine] = one["student.towers.visual.conv1.weight"].grad
    assert not torch.allclose(ends["logits"], ends["affinities"])
    assert not torch.allclose(ends["logits"], ends["embeddings"])


@pytest.mark.slow
def test_stacked_students_compute_what_they_do_alone(pair: Callable[..., RunConfig]) -> None:
    table = pair(loss={"clip": {}, "crd": {}, "affinity": {}, "fd": {}}).model_dump(mode="json")
    table["teacher"]["combine"] = "affinities"
    table["log"]["every_steps"] = 1
    losses = []
    for stacked in ("on", "off"):
        config = RunConfig.parse(table | {"train": table["train"] | {"num_steps": 3, "stacked": stacked}})
        cohort = build_cohort({name: config.model_copy(update={"seed": seed}) for seed, name in enumerate("ab")})
        steps = [event for event in train(cohort) if isinstance(event, StepDone)]
        losses.append([value for event in steps for value in (event.loss, event.grad_norm, *event.terms.values())])
    assert len(losses[0]) == 2 * 3 * 7
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_live_cached_and_mixed_runs_end_with_the_same_weights(
    pair: Callable[..., RunConfig], tiny_models: dict[str, str]
) -> None:
    live = sha_of(pair())
    alone = pair().teacher.model_copy(update={"model": tiny_models["teacher"], "cache": "on"})
    prepare_cache(pair().model_copy(update={"teacher": alone}))
    mixed = build_cohort({"run": pair("auto")})  # finds the cache of the teacher that a run with it alone has made
    assert [cache is not None for cache in mixed.caches] == [True, False]
    assert [len(mixed.stream.teachers), mixed.cached] == [1, None]
    for _ in train(mixed):
        pass
    assert weights_sha256(mixed.members[0].state) == live
    cached = build_cohort({"run": pair("on")})
    assert isinstance(cached.cached, JoinedCaches)
    assert [cache.manifest.teacher for cache in cached.caches] == [part.spec for part in pair().teacher.teachers]
    assert sha_of(pair("on")) == live


def test_all_pairs_are_candidates_of_a_cached_group(pair: Callable[..., RunConfig]) -> None:
    losses = {"clip": {"weight": 1.0}, "icl": {"weight": 1.0, "candidates": "all"}}
    cohort = build_cohort({"run": pair("on", loss=losses)})
    good_B, rows = cohort.cached.good_embeddings(torch.arange(120), cohort.teacher.scale)
    assert good_B.all()
    batch = cohort.stream.batch(0)
    outputs = cohort.teacher_forward(batch, 0)
    of_batch = torch.tensor(batch.indices) * 2 + torch.tensor(batch.views)
    assert torch.equal(rows.image_BD[of_batch], outputs.embeddings.image_BD)
    cohort.train_step(batch, outputs, 0)


def test_a_resumed_run_is_the_uninterrupted_one_and_other_weights_are_refused(
    pair: Callable[..., RunConfig], tmp_path: Path
) -> None:
    whole = sha_of(pair())
    started = launch({"run": pair(log={"every_steps": 1, "checkpoint_every_steps": 3})}, tmp_path)
    interrupted = iter([False] * 3 + [True] * 99)
    for _ in started.events(lambda: next(interrupted)):
        pass
    run = started.directories["run"]
    again = relaunch(run)
    for _ in again.events():
        pass
    assert weights_sha256(again.cohort.members[0].state) == whole
    facts = read_manifest(newest_checkpoint(run))["teacher"]
    assert len(facts["members"]) == 2
    assert facts["weights_sha256"] == again.cohort.teacher.fingerprint()
    text = run.config_file.read_text()
    run.config_file.write_text(text.replace("*2", "*3"))
    with pytest.raises(ValueError, match=r"teacher\.model was"):
        relaunch(run)
    run.config_file.write_text(text)
    measured = remeasure("run", None, runs_dir=tmp_path)
    assert measured.metrics == pytest.approx(summarize(run).metrics)
    assert "similarity_single" in measured.metrics  # through the learned projection to the width of both


def test_any_model_is_compared_with_several_teachers(tiny_models: dict[str, str], other_teacher: str) -> None:
    spec = f"{tiny_models['teacher']} + {other_teacher}"
    found = compare_models(
        [tiny_models["teacher"], other_teacher], "samples:scenes/validation", teacher=spec, num_pairs=20
    )
    recalls = [set(model.measured.teacher) for model in found.models]
    assert recalls[0] == recalls[1] != set()
    assert all("cka" in model.measured.metrics for model in found.models)


def test_doctor_measures_the_group(pair: Callable[..., RunConfig]) -> None:
    found = examine_run(pair())
    checks = [finding.check for finding in found.findings]
    assert checks.count("model inputs") == checks.count("teacher's words") == 2
    assert "teacher" in checks
    assert any(check.startswith("affinities crd") for check in checks)
    assert found.forecast is not None


def test_what_needs_one_teacher_is_refused_with_the_remedy(pair: Callable[..., RunConfig]) -> None:
    losses = {"intermediate": {"weight": 1.0, "student_blocks": [0], "teacher_blocks": [0]}}
    with pytest.raises(ValueError, match=r"loss\.intermediate\.weight=0"):
        build_cohort({"run": pair(loss=losses)})
    with pytest.raises(ValueError, match="names several models"):
        load_model(pair().teacher.model)
    assert isinstance(build_cohort({"run": pair()}).teacher, TeacherGroup)
