"""Runs on users' own data: every source trains, evaluates and resumes, and bad images do not end a run."""

import io
import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.config.run import RunConfig
from workbench.engine.build import build_cohort
from workbench.engine.launch import launch, relaunch
from workbench.engine.loop import train
from workbench.events import EvalDone, Event, RunFinished, Warned
from workbench.models.weights import weights_sha256

Tiny = Callable[..., RunConfig]
NUM_SHOWN_IMAGES = 48


@pytest.fixture
def specs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The same 48 images as a CSV, a COCO file and a folder of three classes, and a mixture of two of them."""
    monkeypatch.chdir(tmp_path)
    names, images, annotations = [], [], []
    for number in range(NUM_SHOWN_IMAGES):
        path = Path("classes", f"class_{number % 3}", f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(number).integers(0, 256, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((25, 20)).save(path)
        names.append(str(path))
        images.append({"id": number, "file_name": str(path)})
        annotations += [{"image_id": number, "caption": f"word {number} {copy}"} for copy in range(5)]
    Path("pairs.tsv").write_text("filepath\ttitle\n" + "".join(f"{name}\ta {name}\n" for name in names))
    Path("captions.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return {
        "csv": "pairs.tsv",
        "coco": "coco:captions.json@.",
        "folder": "folder:classes",
        "mixture": "pairs.tsv*2 + folder:classes*1",
    }


def trained_at_once(config: RunConfig) -> str:
    """The checksum of what a run learns."""
    cohort = build_cohort({"alone": config})
    for _ in train(cohort):
        pass
    return weights_sha256(cohort.members[0].state)


def trained_with_a_break(config: RunConfig, after: int) -> tuple[str, list[Event]]:
    """The same of a run that is interrupted after some steps and taken up again, and its events."""
    asked = iter(range(1, 1000))
    started = launch({"run": config}, Path("runs"))
    events = list(started.events(lambda: next(asked) == after))
    resumed = relaunch(started.directories["run"])
    events += resumed.events()
    return weights_sha256(resumed.cohort.members[0].state), events


@pytest.mark.parametrize("form", ["csv", "coco", "folder", "mixture"])
def test_every_form_trains_evaluates_and_resumes(specs: dict[str, str], tiny: Tiny, form: str) -> None:
    data = {"train": specs[form], "validation": specs[form], "num_pairs": 0, "num_validation_pairs": 0, "views": 2}
    config = tiny(data=data, train={"num_steps": 7, "batch_size": 12})
    learnt, events = trained_with_a_break(config, after=3)
    assert learnt == trained_at_once(config)
    assert [event.state for event in events if isinstance(event, RunFinished)] == ["interrupted", "finished"]
    [measured] = [event for event in events if isinstance(event, EvalDone)]
    assert measured.num_pairs == NUM_SHOWN_IMAGES * (2 if form == "mixture" else 1)
    assert ("zero_shot_top1" in measured.metrics) == (form == "folder")


def spoil(*numbers: int) -> None:
    for number in numbers:
        next(Path("classes").glob(f"*/{number}.png")).write_bytes(b"<html>")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_bad_image_is_reported_and_the_run_continues(specs: dict[str, str], tiny: Tiny, num_workers: int) -> None:
    spoil(11, 30)
    data = {"train": specs["csv"], "validation": specs["csv"], "num_pairs": 0, "num_workers": num_workers}
    config = tiny(data=data, train={"num_steps": 9, "batch_size": 12})
    events = list(train(build_cohort({"one": config, "other": config.model_copy(update={"seed": 5})})))
    for name in ("one", "other"):
        warned = [event.message for event in events if isinstance(event, Warned) and event.run == name]
        assert warned[0].startswith("validation: images that cannot be used are not evaluated: 2 of 40 (2 no JPEG")
        assert warned[1].startswith("of a sample of the images, some cannot be used: 2 of 48 (2 no JPEG")
        # 9 steps are two epochs of 48 images and a step: both bad ones came twice, or one of them three times.
        assert "images cannot be used and were replaced by others:" in warned[-1]
        assert re.search(r"others: (4 of 96 \(4|5 of 108 \(5) no JPEG", warned[-1])
    assert [event.state for event in events if isinstance(event, RunFinished)] == ["finished"] * 2


def test_substitutes_do_not_depend_on_interruptions_nor_workers(specs: dict[str, str], tiny: Tiny) -> None:
    spoil(11, 30)
    data = {"train": specs["csv"], "validation": "", "num_pairs": 0}
    steps = {"num_steps": 6, "batch_size": 12}
    learnt, events = trained_with_a_break(tiny(data=data | {"num_workers": 2}, train=steps), after=2)
    assert any("were replaced by others" in event.message for event in events if isinstance(event, Warned))
    assert learnt == trained_at_once(tiny(data=data, train=steps))


def test_too_many_bad_images_end_the_run_with_reasons(specs: dict[str, str], tiny: Tiny) -> None:
    data = {"train": specs["csv"], "validation": "", "num_pairs": 0, "prepare": "off"}
    cohort = build_cohort({"run": tiny(data=data, train={"num_steps": 50, "batch_size": 12})})
    spoil(*range(0, 12, 2))  # after the look that is taken first
    events: list[Event] = []
    with pytest.raises(
        ValueError, match=r"^too many images cannot be used, 6 of \d+ \(6 no JPEG, PNG or WebP; such as"
    ):
        events.extend(train(cohort))  # those before the error stay
    assert isinstance(events[-1], RunFinished)
    assert events[-1].state == "failed"
    assert "pairs.tsv, image 'classes/class_" in events[-1].reason


def test_nonsense_is_refused_before_a_run_exists(specs: dict[str, str], tiny: Tiny) -> None:
    names = [line.split("\t")[0] for line in Path("pairs.tsv").read_text().splitlines()]
    Path("same.csv").write_text("".join(f"{name},title\n" for name in names))
    config = tiny(data={"train": "same.csv", "validation": "", "num_pairs": 0})
    with pytest.raises(ValueError, match=r"^all 48 pairs have the same caption, 'title'"):
        launch({"run": config}, Path("runs"))
    assert not Path("runs/run").exists()
    del specs


def write_shards(count: int) -> str:
    """Shards of 16 pairs each, and their SPEC."""
    for shard in range(count):
        with tarfile.open(f"{shard}.tar", "w") as archive:
            for number in range(16 * shard, 16 * shard + 16):
                image = next(Path("classes").glob(f"*/{number}.png")).read_bytes()
                for ending, content in (("png", image), ("txt", b"word %d" % number)):
                    header = tarfile.TarInfo(f"{number:03d}.{ending}")
                    header.size = len(content)
                    archive.addfile(header, io.BytesIO(content))
    return f"{{0..{count - 1}}}.tar"


@pytest.mark.usefixtures("specs")
@pytest.mark.filterwarnings("ignore:left out 1 of 3 shards")
def test_bad_shards_are_refused_by_default_and_skipped_where_the_setting_allows_it(tiny: Tiny) -> None:
    spec = write_shards(3)
    data = {"train": spec, "validation": spec, "num_pairs": 0, "num_validation_pairs": 0}
    steps = {"num_steps": 2, "batch_size": 8}
    full = build_cohort({"run": tiny(data=data, train=steps)}).stream.dataset.fingerprint
    Path("1.tar").write_bytes(Path("1.tar").read_bytes()[:5000])
    for split in ("train", "validation"):
        with pytest.raises(ValueError, match=r"^1 of 3 shards cannot be used; .*--set data\.bad_shards=skip"):
            build_cohort({"run": tiny(data=data | {"train": "0.tar", "validation": "0.tar", split: spec}, train=steps)})
    cohort = build_cohort({"run": tiny(data=data | {"bad_shards": "skip"}, train=steps)})
    assert len(cohort.stream.dataset) == 32
    assert cohort.members[0].data_fingerprint not in (full, "")
    assert cohort.evaluators["validation"].pairs.num_images == 32
    assert [event.state for event in train(cohort) if isinstance(event, RunFinished)] == ["finished"]
    [note] = cohort.stream.dataset.reading.notes
    assert note.startswith("left out 1 of 3 shards (data.bad_shards=skip); shard '")


def test_zero_shot_comes_first_of_a_class_folder(specs: dict[str, str], tiny: Tiny) -> None:
    for form, is_first in (("folder", True), ("csv", False)):
        data = {"train": specs[form], "validation": specs[form], "num_pairs": 0, "num_validation_pairs": 0}
        cohort = build_cohort({"run": tiny(data=data, train={"batch_size": 12})})
        member = cohort.members[0]
        metrics = list(cohort.evaluators["validation"].measure(member.state.student).metrics)
        assert (metrics[0] == "zero_shot_top1") is is_first
