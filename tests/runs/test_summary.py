"""What came out of a run, from its log."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w

from workbench.config.run import RunConfig
from workbench.config.steering import Origin
from workbench.config.study import Study, load_study
from workbench.events import CheckpointSaved, EvalDone, RunResumed
from workbench.runs.directory import RunDirectory, create_run, list_runs
from workbench.runs.liveness import run_status
from workbench.runs.log import EventLog
from workbench.runs.summary import (
    find_study,
    find_trainable,
    known_studies,
    read_summary,
    save_copy,
    summarize,
    summary_or_reason,
    write_summary,
)


def evaluated(step, split, **metrics):
    return EvalDone(
        run="a",
        step=step,
        split=split,
        num_pairs=1000,
        metrics=metrics,
        errors=dict.fromkeys(metrics, 0.01),
        chance=dict.fromkeys(metrics, 0.1),
        teacher={"image_to_text_r1": 0.9} if split == "validation" else {},
        elapsed_s=999.0,
    )


def saved(step, digest):
    return CheckpointSaved(run="a", step=step, path=f"checkpoints/{step}", weights_sha256=digest)


@pytest.fixture
def say(run):
    def append(*events):
        with EventLog(run.events_file) as log:
            for event in events:
                log.append(event)

    return append


def test_the_document_has_what_the_surface_promises(run, say, started, step_done, finished):
    say(
        started(num_steps=20),
        evaluated(10, "validation", zero_shot_top1=0.1),
        step_done(20),
        saved(20, "abc"),
        evaluated(20, "validation", zero_shot_top1=0.5),
        evaluated(20, "test", zero_shot_top1=0.4),
        finished(20, reason="the end", elapsed_s=61.5),
    )
    assert summarize(run).to_document() == {
        "id": "clip-kd-s0",
        "dir": str(run.path),
        "state": "finished",
        "num_steps": 20,
        "step": 20,
        "metrics": {"zero_shot_top1": 0.5},
        "errors": {"zero_shot_top1": 0.01},
        "test_metrics": {"zero_shot_top1": 0.4},
        "test_errors": {"zero_shot_top1": 0.01},
        "chance": {"zero_shot_top1": 0.1},
        "teacher_metrics": {"image_to_text_r1": 0.9},
        "test_chance": {"zero_shot_top1": 0.1},
        "test_teacher_metrics": {},
        "weights_sha256": "abc",
        "kept_fraction": 1.0,
        "elapsed_s": 61.5,
        "reason": "the end",
    }


def test_without_a_validation_split_the_last_evaluation_counts(run, say):
    say(evaluated(1, "test", a=1.0), evaluated(2, "photos", a=2.0))
    summary = summarize(run)
    assert (summary.metrics, summary.test_metrics) == ({"a": 2.0}, {"a": 1.0})


def test_a_run_without_events_has_an_empty_summary(run):
    summary = summarize(run)
    assert (summary.state, summary.step, summary.metrics, summary.weights_sha256) == ("new", 0, {}, "")
    assert (summary.elapsed_s, summary.reason) == (0.0, "")


def test_a_dead_run_shows_its_last_step(run, say, started, step_done):
    say(started(), step_done(7, elapsed_s=3.5))
    summary = read_summary(run)
    assert (summary.state, summary.step, summary.elapsed_s) == ("dead", 7, 3.5)


def test_superseded_evaluations_and_checkpoints_do_not_count(run, say, started, finished):
    say(started(), evaluated(10, "validation", a=1.0), saved(10, "ten"))
    say(evaluated(20, "validation", a=2.0), saved(20, "twenty"), finished(20))
    say(RunResumed(run="a", step=10, host="elsewhere", pid=1))
    summary = summarize(run)
    assert (summary.metrics, summary.weights_sha256) == ({"a": 1.0}, "ten")
    assert summary.state != "finished"


def test_non_finite_metrics_are_strict_json_and_come_back(run, say, finished):
    say(evaluated(1, "validation", a=float("nan"), b=float("-inf")), finished(1, state="diverged"))
    write_summary(run)

    def refuse(token):
        raise AssertionError(token)

    document = json.loads(run.summary_file.read_text(), parse_constant=refuse)
    assert document["metrics"] == {"a": "NaN", "b": "-Infinity"}
    assert document == summarize(run).to_document()
    metrics = read_summary(run).metrics
    assert math.isnan(metrics["a"])
    assert metrics["b"] == float("-inf")


def test_a_written_summary_is_read_and_a_damaged_one_is_recomputed(run, say, finished):
    say(finished(5))
    write_summary(run)
    assert read_summary(run) == summarize(run)
    content = run.summary_file.read_text()
    run.summary_file.write_text(content.replace('"kept_fraction": 1.0', '"kept_fraction": 0.5'))
    assert read_summary(run).kept_fraction == 0.5
    run.summary_file.write_text(content.replace('"step": 5', '"step": 6'))
    assert read_summary(run).step == 5
    run.summary_file.write_text(content[:-30])
    assert read_summary(run).step == 5


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_summary_that_the_log_contradicts_does_not_count(run, say, started, step_done, finished, kept):
    say(started(), step_done(5), finished(5))
    write_summary(run)
    lines = run.events_file.read_text().splitlines(keepends=True)
    run.events_file.write_text("".join(lines[:kept]))
    assert read_summary(run) == summarize(run)
    assert read_summary(run).state == run_status(run).state == ("dead" if kept else "new")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
@pytest.mark.parametrize("name", ["run.toml", "events.jsonl"])
def test_a_run_whose_files_are_no_plain_files_is_unreadable(run, say, finished, name, make):
    say(finished(600))
    write_summary(run)
    (run.path / name).unlink()
    make(run.path / name)
    assert [one.id for one in list_runs(run.path.parent)] == [run.id]
    for from_log in (False, True):
        found = summary_or_reason(run, from_log=from_log)
        assert (found.state, name in found.reason) == ("unreadable", True)


def test_a_summary_in_a_folder_whose_name_is_not_utf8(run, say, finished):
    say(finished(600))
    moved = RunDirectory(run.path.rename(os.fsdecode(os.fsencode(run.path) + b"\xff")))
    write_summary(moved)
    assert read_summary(moved) == summarize(moved)
    assert json.loads(json.dumps(summarize(moved).to_document()))["dir"] == str(moved.path)


def test_the_summary_of_a_run_that_was_moved_names_its_new_place(run, say, finished):
    say(finished(600))
    write_summary(run)
    moved = RunDirectory(run.path.rename(run.path.with_name("moved")))
    assert (read_summary(moved).id, read_summary(moved).dir) == ("moved", str(moved.path))


def test_an_unreadable_run_has_a_summary_with_the_reason(run, say, finished):
    say(finished(600))
    assert summary_or_reason(run) == read_summary(run)
    run.events_file.unlink()
    run.events_file.mkdir()
    found = summary_or_reason(run)
    assert (found.id, found.state, found.metrics) == (run.id, "unreadable", {})
    assert found.reason == f"cannot read {run.events_file}: it is a folder, not a file"
    assert found.to_document()["state"] == "unreadable"


RUNS = Path("runs")
GRID = 'question = "Which?"\nseeds = 2\nbaseline = "0"\n[grid]\nloss.fd.weight = [0, 1]\n'
SEARCH = (
    'question = "Where?"\nseeds = 2\ntrials = 4\nconfirm_seeds = 0\n[search]\n'
    "loss.fd.weight = { low = 0.1, high = 10.0, log = true }\n"
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    RUNS.mkdir()


@pytest.fixture
def make_run() -> Callable[[str, str, int], None]:
    """``make_run(study, cell, seed)`` creates a run that has not started."""

    def make(study: str, cell: str, seed: int) -> None:
        origin = Origin(study=study, cell=cell, values={"loss.fd.weight": float(cell)}, seed=seed, trial=int(cell))
        table = RunConfig(recipe="fd", seed=seed).model_dump(mode="json") | {"sweep": origin.model_dump(mode="json")}
        create_run(RUNS, f"{study}-{cell}-s{seed}", tomli_w.dumps(table))

    return make


@pytest.mark.parametrize("place", ["own.toml", "studies/own.toml", "elsewhere/own.toml"])
def test_a_study_of_ones_own_is_found_by_name(place: str) -> None:
    Path(place).parent.mkdir(exist_ok=True)
    Path(place).write_text(GRID)
    if place.startswith("elsewhere"):
        with pytest.raises(ValueError, match="unknown study 'own'"):
            find_study("own", RUNS)
        save_copy(load_study(place), "own", RUNS)  # as its sweep does
    found = find_study("own", RUNS)
    assert found == (load_study(place), "own", True)
    assert find_trainable("own", RUNS) == found.study
    assert "own" in known_studies(RUNS)
    assert "icl_weight" in known_studies(RUNS)


def test_recipes_beside_it_are_no_studies() -> None:
    Path("own.toml").write_text(GRID)
    Path("recipe.toml").write_text('extends = "clip-kd"\n[loss.fd]\nweight = 3\n')
    Path("more.toml").write_text('extends = "own.toml"\nseeds = 5\n')
    Path("circle.toml").write_text('extends = "circle.toml"\n')
    Path("broken.toml").write_text("[")
    shipped = set(known_studies(Path("nowhere"))) - {"own", "more"}
    assert "clip_kd_search" in shipped
    assert set(known_studies(RUNS)) == shipped | {"own", "more"}
    assert find_study("more", RUNS).study.seeds == 5


def test_a_file_may_extend_its_namesake() -> None:
    Path("icl_weight.toml").write_text('extends = "icl_weight"\nseeds = 7\n')
    assert find_study("icl_weight", RUNS).study.seeds == 7
    Path("studies").mkdir()
    Path("studies/icl_weight.toml").write_text(GRID)
    assert find_study("icl_weight", RUNS).study.question == "Which?"


@pytest.mark.parametrize("content", [GRID, SEARCH])
def test_a_copy_is_the_study_as_it_was_asked_for(content: str) -> None:
    Path("own.toml").write_text(content)
    asked = load_study("own.toml")
    Path("own.toml").unlink()
    save_copy(asked, "other", RUNS)
    assert find_study("other", RUNS).study == asked.model_copy(update={"name": "other"})
    assert find_study("other-quick", RUNS) == (asked.quick().model_copy(update={"name": "other"}), "other", True)


def test_the_copy_of_a_rehearsal_is_found_by_both_names() -> None:
    Path("own.toml").write_text(GRID)
    rehearsal = load_study("own.toml").quick()
    Path("own.toml").unlink()
    save_copy(rehearsal, "own-quick", RUNS)
    assert find_study("own", RUNS) == (rehearsal, "own", False)
    assert find_study("own-quick", RUNS) == (rehearsal, "own", True)
    assert find_trainable("own-quick", RUNS).name == "own-quick"
    with pytest.raises(ValueError, match=r"FILE\.toml"):
        find_trainable("own", RUNS)
    assert [name for name in known_studies(RUNS) if name.startswith("own")] == ["own"]


def test_a_study_whose_own_name_ends_like_a_rehearsals_is_no_rehearsal() -> None:
    Path("own-quick.toml").write_text(GRID)
    study = load_study("own-quick.toml")
    Path("own-quick.toml").unlink()
    save_copy(study, "own-quick", RUNS)
    assert find_study("own-quick", RUNS) == (study, "own-quick", True)
    assert [name for name in known_studies(RUNS) if name.startswith("own")] == ["own-quick"]


def test_a_study_without_a_file_is_reconstructed_from_its_runs(make_run: Callable[[str, str, int], None]) -> None:
    for cell in ("0", "1"):
        for seed in (0, 1, 2):
            make_run("lost", cell, seed)
    make_run("lost-best-of-4", "0", 9)
    found = find_study("lost", RUNS)
    assert not found.has_file
    assert [cell.name for cell in found.study.cells] == ["0", "1"]
    assert (found.study.recipe, found.study.seeds) == ("fd", 3)
    assert [name for name in known_studies(RUNS) if name.startswith("lost")] == ["lost"]
    with pytest.raises(ValueError, match=r"FILE\.toml"):
        find_trainable("lost", RUNS)


def test_the_nearest_name_is_offered_and_a_rehearsal_goes_with_its_study(
    make_run: Callable[[str, str, int], None],
) -> None:
    Path("own.toml").write_text(GRID)
    make_run("own-quick", "0", 0)
    assert find_study("own-quick", RUNS) == (load_study("own.toml").quick(), "own", True)
    assert "own-quick" not in known_studies(RUNS)
    with pytest.raises(ValueError, match="did you mean 'own'"):
        find_study("onw", RUNS)


def test_a_study_is_what_was_loaded() -> None:
    Path("own.toml").write_text(SEARCH)
    assert isinstance(find_study("own.toml", RUNS).study, Study)
    assert find_study("own.toml", RUNS).source == "own.toml"
