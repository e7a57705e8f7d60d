"""Manual additions to a running study, with faked runs and a real database."""

from types import SimpleNamespace

import pytest

from workbench.process import this_host
from workbench.sweeps import sweep as sweeps
from workbench.sweeps.outcome import Outcome

SEARCH = """
question = "Which weight?"
recipe = "tiny.toml"
seeds = 1
trials = 2
sampler = "random"
confirm_seeds = 0
[search]
loss.fd.weight = { low = 0.1, high = 100.0, log = true }
loss.crd.weight = { choices = [1, 2, 4] }
[[objectives]]
metric = "image_to_text_r1"
"""


@pytest.fixture
def ends(monkeypatch):
    """``ends.states``: by cell and seed, what its run ends as, if not well; ``ends.jobs``: every run asked for."""
    found = SimpleNamespace(states={}, jobs=[])

    def train(jobs, stop):
        for job in jobs:
            found.jobs.append((job.cell.name, job.seed))
        return {
            job.cell.name: Outcome(
                run=f"{job.cell.name}-{job.seed}",
                host=this_host(),
                state=found.states.get((job.cell.name, job.seed), "finished"),
                metrics={"image_to_text_r1": 0.5},
            )
            for job in jobs
            if not stop()
        }

    monkeypatch.setattr(sweeps, "ReplicateTrainer", lambda *_: SimpleNamespace(train=train))
    return found


@pytest.fixture
def search(planned, folder):
    (folder / "search.toml").write_text(SEARCH)
    return lambda: planned("search.toml")


def values(sweep):
    return [(trial.frozen.params["loss.fd.weight"], trial.frozen.params["loss.crd.weight"]) for trial in sweep.trials]


@pytest.mark.usefixtures("ends")
def test_values_are_tried_in_place_of_the_samplers_next(search):
    search().work(lambda: len(search().trials) > 0)
    assert search().queue_values(["loss.fd.weight=7", "loss.crd.weight=4"]) == "loss.fd.weight=7 loss.crd.weight=4"
    search().work()
    assert values(search())[1] == (7.0, 4)
    assert len(values(search())) == 2


@pytest.mark.usefixtures("ends")
def test_a_search_that_has_had_its_trials_tries_them_all_the_same(search):
    search().work()
    assert search().is_done
    search().queue_values(["loss.fd.weight=7"])
    search().queue_values(["loss.fd.weight=8"])
    assert not search().is_done
    search().work()
    assert [weight for weight, _ in values(search())[2:]] == [7.0, 8.0]
    assert {choice for _, choice in values(search())} <= {1, 2, 4}  # which the sampler chose
    assert search().is_done


@pytest.mark.usefixtures("ends")
@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("loss.fd.weigth=1", "did you mean 'loss.fd.weight'"),
        ("loss.fd.weight=1000", "outside"),
        ("loss.crd.weight=3", "outside"),
        ("loss.fd.weight=nan", "outside"),
    ],
)
def test_what_a_search_would_not_try_is_refused_and_not_queued(search, override, said):
    search().work()
    with pytest.raises(ValueError, match=said):
        search().queue_values([override])
    assert search().is_done


def test_one_cell_is_tried_again_and_no_other(planned, ends):
    ends.states = {("1", 0): "failed", ("1", 1): "stopped", ("5", 1): "failed", ("0", 0): "diverged"}
    planned("grid.toml").work()
    ends.states = {}
    ends.jobs.clear()
    assert planned("grid.toml").queue_again("1") == "1 at seed 0, 1"
    planned("grid.toml").work()
    assert sorted(ends.jobs) == [("1", 0), ("1", 1)]
    ends.jobs.clear()
    assert planned("grid.toml").queue_again("5") == "5 at seed 1"
    planned("grid.toml").work()
    assert ends.jobs == [("5", 1)]


@pytest.mark.usefixtures("ends")
def test_what_would_end_the_same_way_is_not_tried_again(planned, ends, search):
    ends.states = {("0", 0): "diverged"}
    planned("grid.toml").work()
    for cell in ("0", "1"):
        with pytest.raises(ValueError, match="no failed or stopped run"):
            planned("grid.toml").queue_again(cell)
    with pytest.raises(ValueError, match="unknown cell '7'"):
        planned("grid.toml").queue_again("7")
    with pytest.raises(ValueError, match="--try is for searches"):
        planned("grid.toml").queue_values(["loss.fd.weight=1"])
    with pytest.raises(ValueError, match="--retry is for grids"):
        search().queue_again("t0000")


def test_nothing_is_queued_for_a_study_that_was_not_started(planned, folder):
    with pytest.raises(ValueError, match="there is no study 'grid' to resume: drop"):
        planned("grid.toml", resumes=True).queue_again("1")
    assert not (folder / "runs").exists()
