"""Output of ``workbench sweep`` and ``workbench studies``."""

import json
import shlex
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from workbench.sweeps.storage import open_storage

STUDY = 'question = "Which weight?"\nrecipe = "{recipe}"\nseeds = 2\nbaseline = "0"\n[grid]\nloss.fd.weight = [0, 5]\n'


@pytest.fixture
def study(tiny_recipe, tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(STUDY.format(recipe=tiny_recipe))
    return str(path)


@pytest.mark.slow
def test_the_table_and_the_document(workbench, study, tmp_path):
    done = workbench("sweep", "--study", study, "--quick")
    assert done.code == 0, done.err
    assert "4 runs, 2 at once: about" in done.err
    assert "differences to '0', paired by seed" in done.out
    assert "image→text R@1" in done.out
    assert done.out.endswith(f"workbench report {study} --quick\n")
    unrehearsed = workbench("report", study)
    assert unrehearsed.code == 2
    assert "add --quick" in unrehearsed.err
    again = workbench("sweep", "--study", study, "--quick", "--json")
    document = json.loads(again.out)
    assert document["study"] == "grid-quick"
    zero, five = document["cells"]
    assert (zero["name"], five["values"]) == ("0", {"loss.fd.weight": 5})
    assert five["runs"] == ["grid-quick-5-s0", "grid-quick-5-s1"]
    assert five["state"] == "finished"
    assert {"mean", "low", "high", "per_seed"} <= five["metrics"]["cka"].keys()
    assert not zero["gains"]
    assert {run.name for run in (tmp_path / "runs").iterdir()} == {*zero["runs"], *five["runs"], "studies"}
    shown = workbench("runs", "show", "grid-quick-5-s0")
    assert shown.code == 0


SEARCH = """
question = "Which weight?"
recipe = "tiny.toml"
seeds = 1
trials = 2
confirm_seeds = 2
warm_start = ["tiny.toml"]
[search]
loss.fd.weight = { low = 0.1, high = 100.0, log = true }
[tuned."tiny.toml"]
optimizer.learning_rate = { low = 1e-4, high = 1.0, log = true }
"""


@pytest.mark.slow
def test_a_search_ends_with_the_answer_in_words(workbench, tiny_recipe, tmp_path):
    (tmp_path / "search.toml").write_text(SEARCH.replace("tiny.toml", tiny_recipe))
    done = workbench("sweep", "--study", "search.toml", "--quick")
    assert done.code == 0, done.err
    assert "10 runs" in done.err  # two trials, two of the rival, and three cells at two seeds
    assert "How good is tiny, tuned with as many trials?" in done.err
    assert "confirmed on held-out seeds (1, 2)" in done.out
    document = json.loads(workbench("sweep", "--study", "search.toml", "--quick", "--json").out)
    (best,) = document["best"]
    assert [cell["name"] for cell in document["confirmed"]["cells"]][-1] == best
    assert len(document["tuned"]["tiny"]["cells"]) == 2
    for answer in document["answers"]:
        assert answer["text"] in done.out
        assert answer["text"].startswith((f"{best} beats '", f"{best} does not beat '", f"{best} against '"))
    *lines, blank, pointer = done.out.splitlines()
    assert lines[-len(document["answers"]) :] == [answer["text"] for answer in document["answers"]]
    assert (blank, pointer.split(": ")[1]) == ("", "workbench report search.toml --quick")


def test_a_dry_run_prints_the_estimate_and_leaves_nothing(workbench, study, tmp_path):
    told = workbench("sweep", "--study", study, "--quick", "--dry-run", "--json")
    assert told.code == 0
    forecast = json.loads(told.out)["forecast"]
    assert forecast["num_runs"] == 4
    assert forecast["total_s"] > 0
    assert 0 < forecast["peak_mb"] < forecast["room_mb"]
    assert not (tmp_path / "runs").exists()


SWEEPS = '[[sweeps]]\nname = "short"\nsteps = 2\n[[sweeps]]\nname = "grid"\n'


def test_a_dry_run_of_several_sweeps_has_the_cost_of_each_and_of_all(workbench, study):
    Path(study).write_text(Path(study).read_text() + SWEEPS)
    told = workbench("sweep", "--study", study, "--dry-run", "--json")
    assert told.code == 0, told.err
    document = json.loads(told.out)
    assert [one["study"] for one in document["sweeps"]] == ["short", "grid"]
    assert [one["forecast"]["num_runs"] for one in document["sweeps"]] == [4, 4]


@pytest.mark.slow
def test_several_sweeps_are_trained_in_turn_and_reported_together(workbench, study, tmp_path):
    Path(study).write_text(Path(study).read_text() + SWEEPS)
    done = workbench("sweep", "--study", study, "--quick", "--json")
    assert done.code == 0, done.err
    assert [one["study"] for one in json.loads(done.out)["sweeps"]] == ["short-quick", "grid-quick"]
    assert {run.name for run in (tmp_path / "runs").glob("*-s0")} == {
        f"{name}-quick-{cell}-s0" for name in ("short", "grid") for cell in (0, 5)
    }
    again = workbench("sweep", "--study", study, "--quick", "--workers", "2")  # finds all runs done
    assert again.code == 0, again.err
    assert f"workbench report {study} --quick" in again.out
    reported = workbench("report", study, "--quick", "--json")
    assert [one["study"] for one in json.loads(reported.out)["sweeps"]] == ["short-quick", "grid-quick"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--study", "budget", "--slurm"), "choose it with --name, of one_loss_80"),
        (("--study", "budget", "--name", "other"), "--name chooses one sweep of one_loss_80"),
        (("--study", "icl_wieght"), "unknown study 'icl_wieght': did you mean 'icl_weight'?"),
        (("--study", "gone.toml"), "cannot read gone.toml"),
        (("--study", "icl_weight", "--trials", "3"), "are for searches"),
        (("--study", "clip_kd_search", "--seeds", "auto"), "is a search: name N"),
        (("--study", "icl_weight", "--set", "loss.icl.weight=3"), "study 'icl_weight' varies loss.icl.weight"),
        (("--study", "icl_weight", "--set", "data.sed=3"), "did you mean 'seed'?"),
        (("--study", "icl_weight", "--slurm", "--dry-run", "--json"), "drop --dry-run, --json"),
        (("--study", "icl_weight", "--slurm", "--resume"), "drop --resume"),
        (("--study", "icl_wieght", "--slurm"), "did you mean 'icl_weight'?"),
        (("--study", "icl_weight", "--resume"), "there is no study 'icl_weight' to resume"),
    ],
)
def test_a_slip_is_one_line(workbench, options, said):
    refused = workbench("sweep", *options)
    assert refused.code == 2
    assert said in refused.err.splitlines()[-1]
    assert "Traceback" not in refused.err


@pytest.mark.parametrize("value", ["0", "-1", "two", ""])
@pytest.mark.parametrize("option", ["--workers", "--seeds"])
def test_a_number_of_workers_or_seeds_is_auto_or_at_least_one(workbench, option, value):
    refused = workbench("sweep", "--study", "icl_weight", option, value)
    assert refused.code == 2
    assert option in refused.err
    assert "must be auto, or a number from 1" in refused.err


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--margin", "nan", "--margin"),
        ("--margin", "-1", "--margin"),
        ("--budget", "2 days", "30m or 2h"),
        ("--budget", "nan", "30m or 2h"),
        ("--budget", "0.5", "at least a second"),
    ],
)
def test_a_margin_and_a_budget_are_numbers(workbench, option, value, said):
    refused = workbench("sweep", "--study", "icl_weight", option, value)
    assert refused.code == 2
    assert said in refused.err


@pytest.mark.parametrize(("options", "number"), [((), "3"), (("--workers", "auto"), "3"), (("--workers", "2"), "2")])
def test_there_is_a_worker_for_every_gpu_unless_a_number_is_given(workbench, study, monkeypatch, options, number):
    started = []
    monkeypatch.setattr("workbench.cli.sweep.gpus_for", lambda device: ["4", "5", "6"] if device == "cpu" else [])
    monkeypatch.setattr("workbench.cli.sweep.work_together", lambda *given: started.append(given))
    workbench("sweep", "--study", study, "--quick", *options)
    ((command, num_workers, gpus, _),) = started
    assert command[command.index("--workers") + 1] == str(num_workers) == number
    assert command[-1] == "--as-worker"
    assert gpus == ["4", "5", "6"]


def test_a_job_array_is_printed_with_the_options_of_the_sweep(workbench, study, tmp_path):
    shared = ("--storage", "postgresql://me@host/db", "--seeds", "3", "--set", "train.device=cuda", "--trust")
    printed = workbench("sweep", "--study", "grid.toml", *shared, "--workers", "2", "--slurm")
    assert (printed.code, printed.err) == (0, "")
    assert subprocess.run(["bash", "-n"], input=printed.out, text=True, check=False).returncode == 0
    lines = printed.out.splitlines()
    settings = dict(line.removeprefix("#SBATCH --").partition("=")[::2] for line in lines if line[:8] == "#SBATCH ")
    assert settings["array"] == "0-1"
    assert settings["gpus-per-task"] == "1"
    assert settings["signal"] == "USR1@120"
    assert settings["open-mode"] == "append"
    assert settings["chdir"] == str(tmp_path)
    assert "requeue" in settings
    worker = shlex.split(next(line for line in lines if "-m workbench" in line))
    assert worker[1:6] == ["-m", "workbench", "sweep", "--study", study]
    given = dict(zip(worker[4::2], worker[5::2], strict=False))
    assert given["--runs"] == str(tmp_path / "runs")
    assert given["--storage"] == "postgresql://me@host/db"
    assert (given["--seeds"], given["--workers"], given["--set"]) == ("3", "1", "train.device=cuda")
    assert given["--at-once"] == "3"  # two cells at three seeds, on two workers
    assert "--trust" in worker
    assert not (tmp_path / "runs").exists()


def test_a_job_array_on_an_sqlite_file_has_a_warning_and_no_more_tasks_than_runs(workbench, study):
    for storage in ((), ("--storage", "sqlite:///shared.db")):
        printed = workbench("sweep", "--study", study, *storage, "--slurm")
        assert "#SBATCH --array=0-3\n" in printed.out
        assert "--storage postgresql://" in printed.err
    assert "#SBATCH --array=0-7\n" in workbench("sweep", "--study", "clip_kd_search", "--slurm").out


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"no database", "cannot be read as a database"), (b"SQLite format 3\0" + bytes(50), "cannot be read")],
)
def test_a_damaged_database_is_named_and_left_as_it_is(workbench, study, tmp_path, content, said):
    file = tmp_path / "runs" / "studies" / "grid.db"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    refused = workbench("sweep", "--study", study)
    assert refused.code == 2
    assert said in refused.err
    assert "move it away" in refused.err
    assert file.read_bytes() == content


def test_a_database_of_a_later_version_is_named_and_left_as_it_is(workbench, study, tmp_path):
    file = tmp_path / "runs" / "studies" / "grid.db"
    open_storage("", file).engine.dispose()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v9.9.9.a'")
        connection.commit()
    before = file.read_bytes()
    refused = workbench("sweep", "--study", study)
    assert refused.code == 2
    assert "has another schema version and was not changed" in refused.err
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://localhost", "name a database as sqlite:///FILE"),
        ("sqlite:////nowhere/at/all.db", "unable to open database file"),
        ("postgresql://me:secret@localhost:1/x", ""),
    ],
)
def test_a_storage_that_cannot_be_used(workbench, study, url, said):
    refused = workbench("sweep", "--study", study, "--storage", url)
    assert refused.code == 2
    assert said in refused.err
    assert "Traceback" not in refused.err
    assert "secret" not in refused.err


def test_what_can_be_asked(workbench):
    listed = workbench("studies", "--json")
    documents = {one["name"]: one for one in json.loads(listed.out)["studies"]}
    assert documents["icl_weight"]["num_runs"] == 15
    assert documents["clip_kd_search"]["num_runs"] == 2 * (40 + 13 + 4) * 2 + 4 * 5
    assert all(one["question"] and one["cost"] for one in documents.values())
    assert "icl_weight" in workbench("studies").out
