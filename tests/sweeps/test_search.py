"""Searches whose runs are pretended: what is asked, dropped, tuned, confirmed and said, and in which order."""

import math
import os
import shutil
import tempfile
from types import SimpleNamespace

import numpy as np
import pytest

from workbench.process import this_host
from workbench.results.trials import sweep_document
from workbench.sweeps import sweep as sweeps
from workbench.sweeps.outcome import Outcome
from workbench.sweeps.search import by_seed, should_prune

SEARCH = """
question = "Which weight?"
recipe = "tiny.toml"
seeds = 2
trials = 5
sampler = "random"
confirm_seeds = 0
warm_start = ["tiny.toml"]
[search]
loss.fd.weight = { low = 0.1, high = 100.0, log = true }
loss.crd.weight = { choices = [1, 2, 4] }
[[objectives]]
metric = "image_to_text_r1"
"""
TUNED = """
[tuned."alone.toml"]
optimizer.learning_rate = { low = 1e-4, high = 1.0, log = true }
"""
SECOND = '[[objectives]]\nmetric = "elapsed_s"\ndirection = "minimize"\n'


class Pretended:
    """Replaces training: every run ends at once with the outcome ``ends(job)``; ``jobs`` records all jobs."""

    def __init__(self):
        self.jobs = []
        self.ends = lambda job: {"metrics": {"image_to_text_r1": worth(job)}}

    def __call__(self, name, _runs_dir, _watch):
        self.name = name
        return self

    def train(self, jobs, stop):
        found = {}
        for job in jobs:
            if not stop():
                self.jobs.append((self.name, job.cell.name, job.seed))
                ending = {"state": "finished", "elapsed_s": fd_weight(job)} | self.ends(job)
                found[job.cell.name] = Outcome(run=f"{job.cell.name}-{job.seed}", host=this_host(), **ending)
        return found


def fd_weight(job):
    loss = job.cell.config.loss
    return loss["fd"].weight if "fd" in loss else 0.0


def worth(job):
    """Best at a weight of 10; seeds differ by more than weights do, and by the same for all but the last bits."""
    wrong_by = math.log10(max(fd_weight(job), 0.001) / 10) ** 2
    return 0.5 + 0.2 * job.seed - 0.05 * wrong_by + 0.001 * math.sin(99 * fd_weight(job) + job.seed)


@pytest.fixture
def pretended(monkeypatch):
    stands_in = Pretended()
    monkeypatch.setattr(sweeps, "ReplicateTrainer", stands_in)
    return stands_in


@pytest.fixture
def quick_disk(tmp_path):
    """A folder in memory where there is one: a database there need not wait for the disk."""
    folder = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def search(planned, folder, quick_disk):
    """``search(text)``: the sweep of this study, with a rival without a teacher."""
    tiny = (folder / "tiny.toml").read_text()
    (folder / "alone.toml").write_text(tiny[: tiny.index("[loss.crd]")])

    def plan(text, **options):
        (folder / "search.toml").write_text(text)
        return planned("search.toml", storage=f"sqlite:///{quick_disk}/search.db", **options)

    return plan


def points(sweep):
    return [dict(trial.frozen.params) for trial in sweep.ledger.trials()]


def test_racing_drops_what_is_credibly_worse_and_never_the_best(search, pretended):
    text = SEARCH.replace("seeds = 2", 'seeds = 3\npruner = "racing"').replace("trials = 5", "trials = 8")
    racing = search(text)
    racing.work()
    assert racing.is_done
    trials = racing.ledger.trials()
    assert len(trials) == 8
    dropped = [trial for trial in trials if trial.state == "dropped"]
    assert 0 < len(dropped) < 6
    assert {trial.frozen.state.name for trial in dropped} == {"PRUNED"}
    assert len(pretended.jobs) == sum(len(trial.outcomes) for trial in trials) < 24
    for trial in dropped:
        before = [other for other in trials[: trial.number] if other.state == "finished"]
        finished = [by_seed(other, "image_to_text_r1") for other in before]
        assert should_prune(by_seed(trial, "image_to_text_r1"), finished, maximize=True)
    whole = [trial for trial in trials if trial.state == "finished"]
    assert racing.best == [max(whole, key=lambda trial: sum(by_seed(trial, "image_to_text_r1").values())).name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "objectives"),
    [("random", ""), ("tpe", ""), ("tpe", SECOND), ("gp", ""), ("gp", SECOND), ("cma-es", ""), ("random", SECOND)],
)
def test_a_search_that_is_interrupted_anywhere_goes_on_with_the_same_sequence(search, pretended, sampler, objectives):
    trials = 13  # the first ten are of no model
    text = SEARCH.replace('"random"', f'"{sampler}"').replace("trials = 5", f"trials = {trials}") + objectives
    whole = search(text, name="whole")
    whole.work()
    done = len(pretended.jobs)
    for count in (3, 4):  # in the middle of a trial, and between two
        before = len(pretended.jobs)
        search(text).work(lambda limit=before + count: len(pretended.jobs) >= limit)
    resumed = search(text)
    assert not resumed.is_done
    resumed.work()
    assert resumed.is_done
    assert points(resumed) == points(whole)
    assert points(whole)[0] == {"loss.fd.weight": 5.0, "loss.crd.weight": 1}
    assert len({tuple(point.values()) for point in points(whole)}) == trials
    assert resumed.best == whole.best
    assert len(resumed.best) >= (1 if not objectives else 2)
    assert len(pretended.jobs) == 2 * done == 2 * 2 * trials  # nothing was trained twice


def confirmed(text):
    return text.replace("confirm_seeds = 0", 'confirm_seeds = 4\nagainst = ["alone.toml"]') + TUNED


LENGTHS = SEARCH.replace("trials = 5", "trials = 9\nlengths = [2, 4, 6]")


def test_the_best_third_trains_for_longer_each_time_and_the_longest_decides(search, pretended):
    """Short training prefers weights near 10, long training small ones: of those that are left, the smallest wins."""
    steps = {}

    def ends(job):
        steps[pretended.name, job.cell.name] = job.cell.config.train.num_steps
        value = worth(job) if job.cell.config.train.num_steps < 4 else 1 / fd_weight(job)
        return {"metrics": {"image_to_text_r1": value}}

    pretended.ends = ends
    sweep = search(LENGTHS)
    sweep.work()
    assert sweep.is_done
    counts = {name: sum(job[0] == name for job in pretended.jobs) for name, _, _ in pretended.jobs}
    assert counts == {"search": 9 * 2, "search-4-steps-of-9": 3 * 2, "search-6-steps-of-9": 1 * 2}
    assert {(name, num) for (name, _), num in steps.items()} == {
        ("search", 2),
        ("search-4-steps-of-9", 4),
        ("search-6-steps-of-9", 6),
    }
    trials = {trial.name: trial for trial in sweep.ledger.trials()}
    short = sorted(trials, key=lambda name: -trials[name].frozen.values[0])[:3]
    weights = {name: trials[name].values["loss.fd.weight"] for name in short}
    assert sweep.best == [min(weights, key=weights.get)]
    again = search(LENGTHS)
    again.work()
    assert again.is_done
    assert len(pretended.jobs) == sum(counts.values())  # nothing is trained twice
    assert sweep.study.num_runs == sum(counts.values())


def test_a_given_number_of_steps_is_that_of_every_configuration(search, pretended):
    sweep = search(LENGTHS, steps=5)
    sweep.work()
    assert {name for name, _, _ in pretended.jobs} == {"search"}
    assert sweep.is_done


@pytest.mark.slow
def test_rivals_are_tuned_at_the_same_lengths_and_confirmed_at_the_last(search, pretended):
    steps = {}

    def ends(job):
        steps.setdefault(pretended.name, set()).add(job.cell.config.train.num_steps)
        rate = job.cell.config.optimizer.learning_rate
        value = worth(job) if "fd" in job.cell.config.loss else rate / 10
        return {"metrics": {"image_to_text_r1": value}}

    pretended.ends = ends
    sweep = search(confirmed(LENGTHS))
    sweep.work()
    assert sweep.is_done
    assert steps == {
        "search": {2}, "search-4-steps-of-9": {4}, "search-6-steps-of-9": {6},
        "search-alone": {2}, "search-alone-4-steps-of-9": {4}, "search-alone-6-steps-of-9": {6},
        "search-best-of-9": {6},
    }  # fmt: skip


def test_rivals_are_tuned_with_the_same_budget_and_beaten_on_the_test_pairs(search, pretended):
    """The search is best by validation, but the tuned rival on the test pairs; the text reports the latter."""

    def ends(job):
        rate = job.cell.config.optimizer.learning_rate
        is_alone = set(job.cell.config.loss) == {"clip"}
        test = worth(job) + (0.001 * math.sin(job.seed / rate) + (0.1 if rate == 0.001 else 0.9) if is_alone else 0)
        validation = rate / 10 if is_alone else worth(job)
        return {"metrics": {"image_to_text_r1": validation}, "test_metrics": {"image_to_text_r1": test}}

    pretended.ends = ends
    sweep = search(confirmed(SEARCH))
    sweep.work()
    assert sweep.is_done
    asked = {name: [job for job in pretended.jobs if job[0] == name] for name in {job[0] for job in pretended.jobs}}
    assert {name: len(of) for name, of in asked.items()} == {
        "search": 5 * 2,
        "search-alone": 5 * 2,
        "search-best-of-5": 4 * 4,
    }
    assert {seed for _, _, seed in asked["search-best-of-5"]} == {2, 3, 4, 5}
    (best,) = sweep.best
    document = sweep_document(sweep)
    assert {one["name"] for one in document["confirmed"]["cells"]} == {"alone", "alone tuned", "tiny", best}
    (tuned,) = (cell for cell in sweep.confirmation.cells if cell.name == "alone tuned")
    (tuning,) = sweep.tunings.values()
    rates = [trial.values["optimizer.learning_rate"] for trial in tuning.ledger.trials()]
    assert tuned.config.optimizer.learning_rate == max(rates)
    assert set(tuned.config.loss) == {"clip"}
    said = {answer["rival"]: answer["text"] for answer in document["answers"]}
    assert said["alone"].startswith(f"{best} beats 'alone': image→text R@1 +")
    assert said["alone tuned"].startswith(f"{best} does not beat 'alone tuned', which is better: image→text R@1 ")
    assert said["tiny"].startswith(f"{best} beats 'tiny'")
    assert document["unbeaten"] == []


@pytest.mark.slow
def test_a_warm_start_that_no_trial_beats_is_reported(search, pretended):
    pretended.ends = lambda job: {"metrics": {"image_to_text_r1": float(fd_weight(job) == 5 or not fd_weight(job))}}
    sweep = search(confirmed(SEARCH))
    sweep.work()
    assert sweep.best == ["t0000"]
    assert sweep.unbeaten == ["tiny"]
    cells = [cell.name for cell in sweep.confirmation.cells]
    assert cells == ["alone tuned", "t0000"]  # what its tuning left as it was comes once, and so does the warm start
    assert sweep_document(search(confirmed(SEARCH))) == sweep_document(sweep)


@pytest.mark.slow
def test_when_time_is_up_rivals_get_as_many_trials_as_there_were(search, pretended, monkeypatch):
    monkeypatch.setattr(sweeps, "time", SimpleNamespace(monotonic=lambda: len(pretended.jobs)))  # a run takes a second
    sweep = search(confirmed(SEARCH.replace("trials = 5", "trials = 9")), timeout_s=5.0)
    sweep.work()
    assert sweep.ledger.num_tried() == 3
    assert [tuning.ledger.num_tried() for tuning in sweep.tunings.values()] == [3]
    assert sweep_document(sweep)["confirmed"]["study"] == "search-best-of-3"
    assert not sweep.is_done


@pytest.mark.slow
def test_three_failures_end_a_search_until_it_is_resumed(search, pretended):
    normal = pretended.ends
    pretended.ends = lambda _: {"state": "failed", "reason": "out of memory"}
    said = []
    search(confirmed(SEARCH)).work(notify=said.append)
    stopped = search(confirmed(SEARCH))
    assert [trial.state for trial in stopped.ledger.trials()] == ["failed"] * 3
    assert any("--resume" in line for line in said)
    stopped.work()
    assert len(stopped.ledger.trials()) == 3  # the same command alone changes nothing
    assert not stopped.is_done
    pretended.ends = normal
    resumed = search(confirmed(SEARCH), resumes=True)
    resumed.retry()
    resumed.work()
    assert resumed.is_done
    trials = resumed.ledger.trials()
    assert [trial.values for trial in trials[3:6]] == [trial.values for trial in trials[:3]]
    assert [trial.state for trial in trials[3:]] == ["finished"] * 5


def test_a_value_that_is_not_a_number_is_never_the_best(search, pretended):
    normal = pretended.ends

    def ends(job):
        bad = {4: math.nan, 2: math.inf}.get(job.cell.values["loss.crd.weight"])
        return normal(job) if bad is None else {"metrics": {"image_to_text_r1": bad}}

    pretended.ends = ends
    sweep = search(SEARCH.replace("seeds = 2", "seeds = 1"))
    sweep.work()
    states = {trial.values["loss.crd.weight"]: trial.frozen.state.name for trial in sweep.ledger.trials()}
    assert states.keys() == {1, 2, 4}
    assert (states[1], states[2], states[4]) == ("COMPLETE", "FAIL", "FAIL")
    assert [sweep.ledger.trial(int(name[1:])).values["loss.crd.weight"] for name in sweep.best] == [1]


def test_another_space_or_direction_is_refused_with_the_difference(search, pretended):
    search(SEARCH).ledger  # noqa: B018  # the property makes the study
    for change, said in (
        (("high = 100.0", "high = 50.0"), r"search of loss.fd.weight was Float.*high=100.0.* and is Float.*high=50.0"),
        (("[1, 2, 4]", "[1, 2]"), r"search of loss.crd.weight was Categorical.*\(1, 2, 4\).* and is .*\(1, 2\)"),
        (('"image_to_text_r1"', '"elapsed_s"\ndirection = "minimize"'), "was maximize .* and is minimize elapsed_s"),
        (('"image_to_text_r1"', '"image_to_text_r1"\ndirection = "minimize"'), "was maximize .* and is minimize"),
    ):
        with pytest.raises(ValueError, match=said):
            search(SEARCH.replace(*change)).ledger  # noqa: B018
    search(SEARCH.replace("trials = 5", "trials = 12").replace("seeds = 2", "seeds = 4")).ledger  # noqa: B018
    assert not pretended.jobs


def trials(effects, seeds, noise, generator):
    seed_effects = generator.normal(0, 5, len(seeds))  # far larger than what is asked about
    return [
        {seed: effect + seed_effects[index] + generator.normal(0, noise) for index, seed in enumerate(seeds)}
        for effect in effects
    ]


def test_equal_configurations_are_seldom_dropped_and_bad_ones_are():
    generator = np.random.default_rng(0)
    dropped_equal = dropped_bad = 0
    for _ in range(400):
        *finished, last = trials([0.0] * 9, range(3), 1.0, generator)
        first_two = {seed: last[seed] for seed in (0, 1)}
        dropped_equal += should_prune(first_two, finished, maximize=True)
        worse = {seed: value - 6 for seed, value in first_two.items()}
        dropped_bad += should_prune(worse, finished, maximize=True)
    assert dropped_equal / 400 < 0.1
    assert dropped_bad / 400 > 0.9


def test_smaller_is_better_where_it_is_minimised():
    finished = trials([0.0] * 6, range(3), 0.1, np.random.default_rng(1))
    better = {0: finished[0][0] - 5}
    assert should_prune(better, finished, maximize=True)
    assert not should_prune(better, finished, maximize=False)


def test_nobody_is_dropped_before_the_scatter_is_known():
    assert not should_prune({0: -100.0}, [{0: 1.0, 1: 2.0}, {0: 1.1, 1: 2.0}], maximize=True)
    assert not should_prune({0: -100.0}, [], maximize=True)
