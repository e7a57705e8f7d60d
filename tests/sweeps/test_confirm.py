"""The best of a search at fresh seeds: what is compared, with which settings, and that it is trained once."""

import pytest

from workbench.config.cells import Changes, cells_of, make_cell
from workbench.results.trials import sweep_document
from workbench.runs.studies import load_study, runs_of_study
from workbench.runs.summary import summarize
from workbench.sweeps.confirm import confirming, tuning
from workbench.sweeps.ledger import Trial

SEARCH = """
question = "Which weight?"
recipe = "tiny.toml"
seeds = 1
trials = 2
confirm_seeds = 2
warm_start = ["tiny.toml"]
against = ["alone.toml"]
settings.loss.crd.weight = 2
settings.data.num_pairs = 40
[search]
loss.fd.weight = { low = 0.1, high = 100.0, log = true }
[tuned."alone.toml"]
optimizer.learning_rate = { low = 1e-4, high = 1.0, log = true }
[[objectives]]
metric = "image_to_text_r1"
"""


@pytest.fixture
def search(folder):
    """A search warm-started with the tiny recipe, compared with its student alone."""
    text = (folder / "tiny.toml").read_text()
    (folder / "alone.toml").write_text(text[: text.index("[loss.crd]")])
    (folder / "search.toml").write_text(SEARCH)
    return folder / "search.toml"


def test_rivals_have_their_own_losses_and_share_all_else(search):
    study = load_study(str(search))
    made = confirming(study, Changes(("optimizer.learning_rate=0.5", "loss.crd.convention=released"), 7), [])
    alone, warm = cells_of(made)
    assert (alone.name, warm.name) == ("alone", "tiny")
    assert set(alone.config.loss) == {"clip"}
    assert warm.config.loss["crd"].weight == 2
    assert warm.config.loss["crd"].convention == "released"
    assert warm.config.loss["fd"].weight == 5  # the recipe's own, as the search began with it
    for cell in (alone, warm):
        assert cell.config.data.num_pairs == 40
        assert cell.config.optimizer.learning_rate == 0.5
        assert cell.config.train.num_steps == 7
    assert (made.baseline, made.first_seed, made.seeds) == ("alone", 1, 2)
    settled = cells_of(
        confirming(study, Changes(), [Trial(0, "t0000", {"loss.fd.weight": 5.0}, (), {}, True, "", None)])
    )
    assert [cell.name for cell in settled] == ["alone", "t0000"]  # which is the warm start


def test_a_rival_is_tuned_as_the_search_was_but_for_its_own_space_and_losses(search):
    study = load_study(str(search))
    (recipe,) = study.tuned
    assert recipe == str(search.parent / "alone.toml")
    changes = Changes(("data.num_pairs=60", "loss.crd.weight=3"), 7)
    made = tuning(study, changes, recipe, 5)
    assert (made.name, made.recipe, made.warm_start) == ("search-alone", recipe, [recipe])
    assert (made.trials, made.seeds, made.first_seed, made.steps) == (5, study.seeds, study.first_seed, 7)
    assert (made.sampler, made.pruner, made.confirm_seeds) == (study.sampler, study.pruner, 0)
    assert made.search.keys() == {"optimizer.learning_rate"}
    example = make_cell(made, "x", {"optimizer.learning_rate": 0.5})
    assert set(example.config.loss) == {"clip"}
    assert (example.config.data.num_pairs, example.config.train.num_steps) == (60, 7)
    best = [Trial(4, "t0004", {"optimizer.learning_rate": 0.5}, (), {}, True, "", None)]
    alone, tuned, _ = cells_of(confirming(study, changes, [], {recipe: best}))
    assert (alone.name, tuned.name) == ("alone", "alone tuned")
    assert (alone.config.optimizer.learning_rate, tuned.config.optimizer.learning_rate) == (0.001, 0.5)
    assert tuned.config == example.config


@pytest.mark.slow
def test_the_best_is_trained_once_with_fresh_seeds_and_paired_with_its_rivals(planned, folder, search):
    sweep = planned(search.name)
    assert sweep.started_confirmation is None
    sweep.work()
    assert sweep.is_done
    (best,) = sweep.best
    (rival,) = sweep.tunings.values()
    assert rival.is_done
    tried = runs_of_study(folder / "runs", "search-alone")
    assert {(one.origin.cell, one.origin.seed) for one in tried} == {("t0000", 0), ("t0001", 0)}
    confirmed = runs_of_study(folder / "runs", "search-best-of-2")
    cells = [cell.name for cell in sweep.confirmation.cells]
    assert cells[-1] == best
    assert "alone tuned" in cells
    assert {(one.origin.cell, one.origin.seed) for one in confirmed} == {(c, s) for c in cells for s in (1, 2)}
    document = sweep_document(sweep)
    assert document["confirmed"]["study"] == "search-best-of-2"
    assert [answer["rival"] for answer in document["answers"]] == cells[:-1]
    found = {one.origin.cell: {} for one in confirmed}
    for one in confirmed:
        found[one.origin.cell][one.origin.seed] = summarize(one.run).metrics["image_to_text_r1"]
    for answer in document["answers"]:
        gain = [found[best][seed] - found[answer["rival"]][seed] for seed in (1, 2)]
        assert answer["gain"]["per_seed"] == pytest.approx(gain)
    again = planned(search.name)
    again.work()
    assert sweep_document(again) == document
    assert len(runs_of_study(folder / "runs", "search-best-of-2")) == len(confirmed) == 2 * len(cells)
