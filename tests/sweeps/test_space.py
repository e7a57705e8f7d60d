"""A sampler that is re-created for every trial samples the same points as an uninterrupted one."""

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from workbench.config.cells import Changes, base_config, cells_of
from workbench.config.study import Study
from workbench.sweeps.space import SteadySampler, difference, identity

SPACE = {"x": FloatDistribution(0.01, 10, log=True), "y": CategoricalDistribution(["a", "b", "c"])}
NUMERIC = {"x": FloatDistribution(0.01, 10, log=True), "z": FloatDistribution(-1, 1)}


def tried(storage, name, num_trials, *, space, restarts):
    """The points of a study that is loaded before every trial, or once."""
    study = optuna.create_study(study_name="s", storage=storage, sampler=SteadySampler(name), load_if_exists=True)
    for _ in range(num_trials):
        if restarts:
            study = optuna.load_study(study_name="s", storage=storage, sampler=SteadySampler(name))
        trial = study.ask(space)
        study.tell(trial, trial.params["x"] ** 2)
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize(
    "name", ["tpe", "random", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gp", "cma-es"))]
)
def test_restarts_do_not_change_the_sequence(name):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = NUMERIC if name == "cma-es" else SPACE
    count = 13 if name == "gp" else 16  # GP and TPE choose at random for the first ten
    whole = tried(optuna.storages.InMemoryStorage(), name, count, space=space, restarts=False)
    apart = tried(optuna.storages.InMemoryStorage(), name, count, space=space, restarts=True)
    assert whole == apart
    assert len({tuple(point.values()) for point in whole}) == count


def test_a_study_continues_when_it_is_evaluated_at_other_intervals_but_not_on_other_pairs():
    study = Study.parse({"name": "mine", "question": "?", "recipe": "fd", "grid": {"loss.fd.weight": [0, 1]}})

    def identified(*overrides):
        changes = Changes(overrides)
        return identity(study, base_config(study, changes), cells_of(study, changes))

    before = identified("evaluate.every_steps=7")
    assert before == identified("evaluate.times=2")
    recorded = before | {"evaluate.every_steps": "1250"}  # as earlier versions did
    assert difference(recorded, identified()) == ""
    assert "data.num_pairs was 1000 and is 300" in difference(recorded, identified("data.num_pairs=300"))
