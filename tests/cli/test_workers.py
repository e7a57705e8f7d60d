"""The GPUs of worker processes; and the table of a study's results, for made-up results."""

import io
import re
from types import SimpleNamespace

import pytest

from workbench.cli import output, workers
from workbench.cli.progress import Interrupt
from workbench.cli.workers import gpus_for, print_results, work_together
from workbench.config.study import CellConfig, Study
from workbench.sweeps.ledger import Trial
from workbench.sweeps.outcome import Outcome


@pytest.fixture
def started(monkeypatch):
    """``started(3, ["0", "1"])``: the environments of three workers that share two GPUs."""

    def start(number, gpus):
        environments = []

        def end_at_once(*_, env, **__):
            environments.append(env)
            return SimpleNamespace(stderr=io.StringIO(), poll=lambda: 0)

        monkeypatch.setattr(workers.subprocess, "Popen", end_at_once)
        work_together(["sweep"], number, gpus, Interrupt())
        return environments

    return start


def test_each_worker_has_a_gpu_of_its_own(started, capsys):
    environments = started(3, ["GPU-a", "MIG-b", "2"])
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in environments] == ["GPU-a", "MIG-b", "2"]
    assert capsys.readouterr().err == ""


def test_more_workers_than_gpus_share_them_and_that_is_stated(started, capsys):
    environments = started(3, ["0", "1"])
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in environments] == ["0", "1", "0"]
    assert "--workers auto" in capsys.readouterr().err


def test_workers_on_a_cpu_keep_their_environment(started, monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in started(2, [])] == ["5", "5"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("device", "gpus"), [("cpu", []), ("cuda", ["7", "8"]), ("auto", ["7", "8"])])
def test_gpus_are_used_where_training_uses_one(monkeypatch, device, gpus):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,8")
    assert gpus_for(device) == gpus


def test_without_nvidia_smi_torch_counts(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", "")
    assert gpus_for("auto") == ["0", "1"]


def trial(number: int, name: str, outcomes: dict[int, Outcome]) -> Trial:
    return Trial(number, name, {}, tuple(outcomes), outcomes, True, "finished", None)


def cell(name: str, values: list[float]) -> Trial:
    return trial(0, name, {seed: outcome(f"{name}-s{seed}", "finished", value) for seed, value in enumerate(values)})


def outcome(run: str, state: str, recall: float | None = None) -> Outcome:
    metrics = {} if recall is None else {"image_to_text_r1": recall}
    reason = "" if recall is not None else "disk full at runs: needs about 3.0 MB, has 0.1 MB"
    return Outcome(run=run, host="here", state=state, reason=reason, metrics=metrics)


def sweep_of(*trials: Trial) -> SimpleNamespace:
    study = Study(name="mine", question="Which?", cells=[CellConfig(name="0")], baseline="0")
    request = SimpleNamespace(study_name="mine")
    return SimpleNamespace(trials=list(trials), study=study, request=request, started_confirmation=None)


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def show(*trials: Trial) -> str:
        monkeypatch.setattr(output, "console", output.PlainConsole(width=80))
        print_results(sweep_of(*trials))
        return capsys.readouterr().out

    return show


def test_one_seed_has_no_interval_and_that_is_printed_once(printed) -> None:
    out = printed(cell("0", [0.3]), cell("5", [0.35]))
    assert "\N{EN DASH}" not in out
    assert not re.search(r"\d to ", out)
    assert "95 %" not in out
    assert out.count("--seeds 3") == 1
    assert [line.split() for line in out.splitlines()[1:3]] == [
        ["0", "1", "of", "1", "30.0"],
        ["5", "1", "of", "1", "35.0", "+5.0"],
    ]


def test_intervals_of_several_seeds_stay_within_the_metrics_range(printed) -> None:
    out = printed(cell("0", [0.01, 0.05]), cell("5", [0.02, 0.04]))
    assert "--seeds" not in out
    assert "0.0 to " in out
    assert out.splitlines()[0].split("95 %")[0].split() == ["cell", "seeds", "image→text", "R@1", "(%)"]


def test_names_of_cells_steer_no_terminal(printed) -> None:
    out = printed(cell("a\x1b[2J\n[red]", [0.3, 0.4]))
    assert r"a\x1b[2J\n[red]" in out


@pytest.mark.parametrize("columns", ["200", "30"])
def test_a_baseline_that_failed_leaves_a_table_without_differences(capsys, monkeypatch, columns) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    trials = [
        trial(0, "0", {seed: outcome(f"zero-{seed}", "failed") for seed in (0, 1)}),
        trial(1, "5", {seed: outcome(f"five-{seed}", "finished", 0.25 + seed / 4) for seed in (0, 1)}),
    ]
    print_results(sweep_of(*trials))
    out = capsys.readouterr().out
    assert "difference " not in out
    assert "37.5" in out
    assert "0: failed: disk full at runs" in out
