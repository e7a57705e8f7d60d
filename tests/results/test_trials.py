"""The sentences of a confirmation: one for every possible verdict, with numbers computed by hand."""

import numpy as np
import pytest
from scipy import stats

from workbench.config.study import CellConfig, Study, StudyObjective
from workbench.results.trials import answers, gains_on_rivals
from workbench.sweeps.ledger import Trial
from workbench.sweeps.outcome import Outcome


def study(metric="image_to_text_r1", direction="maximize", margin=0.0):
    """A search for the best of this metric."""
    objective = StudyObjective(metric=metric, direction=direction)
    return Study(name="mine", question="?", cells=[CellConfig(name="a")], objectives=[objective], margin=margin)


RECALL = study()


def trial(name, by_seed, *, validation=0.0, **outcome):
    """A trial that finished with these test figures; None is a seed that diverged."""
    outcomes = {}
    for seed, value in enumerate(by_seed):
        state = "diverged" if value is None else "finished"
        metrics = {} if value is None else {"image_to_text_r1": value}
        shown = {"metrics": {"image_to_text_r1": validation}, "test_metrics": metrics} | outcome
        outcomes[seed] = Outcome(run=f"{name}-{seed}", host="here", state=state, **shown)
    return Trial(0, name, {}, tuple(outcomes), outcomes, True, "finished", None)


BASELINE, PUBLISHED = [0.10, 0.14, 0.11, 0.13, 0.12], [0.180, 0.221, 0.189, 0.212, 0.199]


def test_numbers_are_of_the_test_pairs_with_all_cells_pooled_and_holm():
    values = np.array([BASELINE, PUBLISHED, [0.19, 0.23, 0.20, 0.22, 0.21]])
    names = ["baseline", "clip-kd", "t0007"]
    trials = [trial(name, row, validation=1 - row[0]) for name, row in zip(names, values, strict=True)]
    baseline, published = answers(RECALL, trials, ["t0007"])
    residual = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    error = np.sqrt(2 * (residual**2).sum() / 8 / 5)  # 8 = (3 - 1)(5 - 1) degrees of freedom
    p_values = []
    for answer, row in ((baseline, values[0]), (published, values[1])):
        gain = values[2].mean() - row.mean()
        assert answer.gain.mean == pytest.approx(gain)
        assert answer.gain.high == pytest.approx(gain + stats.t.ppf(0.975, 8) * error)
        p_values.append(2 * stats.t.sf(gain / error, 8))
    assert [baseline.p_value, published.p_value] == pytest.approx(
        [2 * p_values[0], p_values[1]]
    )  # the smaller is twice
    assert baseline.text.startswith("t0007 beats 'baseline': image→text R@1 +9.0 points (95 % +")
    assert baseline.text.endswith(", 5 seeds)")
    assert gains_on_rivals(trials, ["t0007"])["clip-kd"]["t0007"]["image_to_text_r1"] == published.gain.to_json()


@pytest.mark.parametrize(
    ("row", "verdict", "said"),
    [
        (PUBLISHED, "better", "beats 'rival': "),
        (
            [0.02, 0.06, 0.031, 0.05, 0.04],
            "worse",
            "does not beat 'rival', which is better: image→text R@1 −8.0 points",
        ),
        ([0.11, 0.13, 0.12, 0.13, 0.12], "open", "seeds needed if the true difference is that large"),
        ([0.2, None, None, None, None], "not enough seeds", "with so few seeds: image→text R@1 +10.0 points"),
        ([None] * 5, "not enough seeds", "with so few seeds: no seed finished for both"),
    ],
)
def test_every_end_has_its_sentence(row, verdict, said):
    (answer,) = answers(RECALL, [trial("rival", BASELINE), trial("best", row)], ["best"])
    assert answer.verdict == verdict
    assert said in answer.text
    document = answer.to_json()
    assert (document["rival"], document["text"]) == ("rival", answer.text)


def test_smaller_is_better_where_it_is_minimised():
    slow = [trial("rival", BASELINE, elapsed_s=seconds) for seconds in (9.0,)]
    fast = trial("best", BASELINE, elapsed_s=3.0)
    (answer,) = answers(study("elapsed_s", "minimize"), [*slow, fast], ["best"])
    assert (answer.verdict, answer.gain.mean) == ("better", -6)
