"""A model card: the Hub's metadata, numbers with intervals, the recipe, and nothing of this machine."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w
import yaml
from huggingface_hub import ModelCard

from workbench.config.run import RunConfig
from workbench.config.study import Study
from workbench.config.toml import load_recipe, load_run_config
from workbench.events import Commanded, EvalDone, Event, RunStarted, Warned
from workbench.results.card import model_card, public
from workbench.results.departures import run_departures
from workbench.runs.directory import RunDirectory, create_run
from workbench.runs.log import EventLog
from workbench.runs.studies import load_study
from workbench.runs.suites import SuiteResult, keep_result

STEP = 40
METRICS = {"zero_shot_top1": 0.42, "image_to_text_r1": 0.25, "similarity_cross": 0.5}


def evaluated(step: int = STEP, split: str = "validation", top1: float = 0.42) -> EvalDone:
    return EvalDone(
        run="one",
        step=step,
        split=split,
        num_pairs=1000,
        metrics=METRICS | {"zero_shot_top1": top1},
        errors={"zero_shot_top1": 0.02, "image_to_text_r1": 0.01},
        chance={"zero_shot_top1": 0.1},
        teacher={"image_to_text_r1": 0.9},
        elapsed_s=1,
    )


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., RunDirectory]:
    """A run of clip-kd with the events given, on data and a teacher below a home folder."""

    def make(*events: Event, **settings: object) -> RunDirectory:
        table = load_recipe("clip-kd").model_dump(mode="json", exclude_none=True)
        table["data"] |= {
            "test": "auto",
            "train": "/home/me/data/cc3m/{00000..00331}.tar",
            "validation": "folder:/home/me/held_out",
        }
        table["teacher"] |= {"model": "open_clip:ViT-B-16@/home/me/w.pt"}
        machine = {"host": "secret-host", "device": "x86_64", "torch": "2.15.0", "code_sha256": "a" * 64}
        directory = create_run(tmp_path / "runs", "one", tomli_w.dumps(table | {"machine": machine} | settings))
        start = RunStarted(
            run="one", step=0, num_steps=160, batch_size=100, num_pairs=1000, num_parameters=10,
            num_embedding_parameters=2, host="secret-host", pid=1,
        )  # fmt: skip
        with EventLog(directory.events_file) as log:
            for event in (start, *events):
                log.append(event)
        return directory

    return make


def card_of(run: RunDirectory, step: int = STEP, **changes: object) -> str:
    numbers = {"image": 3_000_000, "text": 2_500_000, "total": 5_500_001}
    options = {"num_params": numbers, "format": "open_clip", "use": ["import open_clip"], "size_px": 48}
    return model_card(run, step, **{**options, **changes})  # type: ignore[arg-type]


def test_the_metadata_are_the_hubs_model_index(run: Callable[..., RunDirectory]) -> None:
    text = card_of(run(evaluated(), evaluated(split="test", top1=0.4)))
    front = yaml.safe_load(text.split("---\n")[1])
    assert (front["library_name"], front["pipeline_tag"]) == ("open_clip", "zero-shot-image-classification")
    results = ModelCard(text).data.eval_results  # as the Hub parses it
    assert results is not None
    found = {(one.dataset_name, one.dataset_split, one.metric_type): one.metric_value for one in results}
    assert found == {
        ("folder:held_out", "validation", "accuracy"): 0.42,
        ("{00000..00331}.tar", "test", "accuracy"): 0.4,
    }
    assert {one.task_type for one in results} == {"zero-shot-image-classification"}


def test_every_number_has_its_interval_chance_and_teacher(run: Callable[..., RunDirectory]) -> None:
    text = card_of(run(evaluated()))
    assert "| zero-shot top-1 (%) | 42.0 | 38.1 to 45.9 | 10.0 | \N{EN DASH} |" in text  # 0.42 ± 1.96 * 0.02
    assert "| image→text R@1 (%) | 25.0 | 23.0 to 27.0 | \N{EN DASH} | 90.0 |" in text
    assert "| cross-modal cosine | 0.50 |  | \N{EN DASH} | \N{EN DASH} |" in text
    assert "5.50 M parameters (3.00 M in the image tower, 2.50 M in the text tower)" in text


def test_only_the_weights_own_evaluations_are_listed(run: Callable[..., RunDirectory]) -> None:
    directory = run(evaluated(20, top1=0.11), evaluated(top1=0.22))
    assert "| 22.0 |" in card_of(directory)
    assert "| 11.0 |" not in card_of(directory)
    assert "| 11.0 |" in card_of(directory, 20)
    assert "The weights of step 30 were not evaluated." in card_of(directory, 30)
    assert "model-index" not in card_of(directory, 30)


def test_the_settings_are_all_there_and_nothing_of_this_machine(run: Callable[..., RunDirectory]) -> None:
    directory = run(evaluated(), Warned(run="one", step=3, message="'/home/me/data/x.tar' has | odd <b>captions</b>"))
    text = card_of(directory)
    assert "/home/me" not in text
    assert "secret-host" not in text
    config = load_run_config(directory.config_file)
    settings = RunConfig.parse(tomllib.loads(text.split("```toml\n")[1].split("```")[0]) | {"recipe": config.recipe})
    assert settings.data.train == "{00000..00331}.tar"
    assert settings.teacher.model == "open_clip:ViT-B-16@w.pt"
    changed = {"data": config.data, "teacher": config.teacher, "question": config.question}
    assert settings.model_copy(update=changed) == config
    assert r"after step 3: 'x.tar' has \| odd \<b>captions\</b>" in text


def test_departures_are_those_of_runs_show(run: Callable[..., RunDirectory]) -> None:
    directory = run(evaluated())
    text = card_of(directory)
    [found] = run_departures(directory)
    assert found.departures
    assert all(f"| {one.setting.replace('`', '')} | " in text for one in found.departures)
    same = found.num_compared - len(found.departures)
    assert f"CLIP-KD: {same} of {found.num_compared} settings are as in the paper." in text


def test_changes_while_running_and_suites_are_part_of_it(run: Callable[..., RunDirectory]) -> None:
    change = Commanded(run="one", step=7, command="set", arguments={"loss.fd.weight": 9.0})
    directory = run(change, evaluated())
    for step, name in ((STEP, "ImageNet"), (STEP + 1, "of other weights")):
        keep_result(
            directory.suites,
            SuiteResult(
                suite="papers", name=name, task="zero-shot", data="folder:x", identity=name, weights_sha256="w",
                step=step, num_images=500, metrics={"zero_shot_top1": 0.3}, errors={"zero_shot_top1": 0.02},
            ),
        )  # fmt: skip
    text = card_of(directory)
    assert "after step 7: loss.fd.weight = 9" in text
    assert "| ImageNet | zero-shot top-1 (%) | 30.0 | ± 2.0 |" in text
    assert "of other weights" not in text


def test_a_cell_of_several_seeds_has_means_over_them(study_file: Callable[..., str], record) -> None:
    study: Study = load_study(study_file())
    runs = [record(study, "10", seed, {"image_to_text_r1": value}) for seed, value in enumerate((0.30, 0.32, 0.34))]
    text = card_of(runs[0], 80)
    # Validation is 0.98 of test: mean 31.36 %, sd 1.96 points, items' error 0.4 points, t(2) = 4.30 and a little less.
    [mean, low, high] = map(float, re.search(r"R@1 \(%\) \| ([\d.]+) \| ([\d.]+) to ([\d.]+) \| seeds", text).groups())  # type: ignore[union-attr]
    assert mean == pytest.approx(31.4)
    assert (low + high) / 2 == pytest.approx(mean, abs=0.1)
    assert 4.3 < (high - low) / 2 < 5.1
    assert "All 3 seeds of cell 10" in text
    assert "seeds of cell" not in card_of(record(study, "100", 0, {"image_to_text_r1": 0.3}), 80)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("/data/cc3m/{00000..00331}.tar*3 + /data/x.csv", "{00000..00331}.tar*3 + x.csv"),
        ("coco:/a/b/c.json@/a/images", "coco:c.json@images"),
        ("~/x/y.csv", "y.csv"),
        ("samples:scenes/test", "samples:scenes/test"),
        ("pairs/a.tsv", "pairs/a.tsv"),
        ("open_clip:ViT-B/16@laion400m_e32", "open_clip:ViT-B/16@laion400m_e32"),
        ("open_clip:ViT-B-16@/home/me/b.pt*2 + /home/me/siglip", "open_clip:ViT-B-16@b.pt*2 + siglip"),
    ],
)
def test_specs_lose_the_folders_of_this_machine(spec: str, expected: str) -> None:
    assert public(spec) == expected


def test_every_teacher_is_named(run: Callable[..., RunDirectory]) -> None:
    spec = "open_clip:ViT-B-16@/home/me/b.pt*2 + /home/me/siglip"
    text = card_of(run(evaluated(), teacher={"model": spec, "scales": [100.0, 50.0]}))
    assert text.replace("\\", "").count("open_clip:ViT-B-16@b.pt*2 + siglip") >= 3  # introduction, table, settings
    assert re.search(r"scales = \[\s*100\.0,\s*50\.0,?\s*\]", text)
