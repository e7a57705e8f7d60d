import math

import pytest

from workbench.adapters.sink import flattened, scalars, settings
from workbench.events import Event, RunFinished, Warned


def test_the_settings_are_the_run_s_without_its_machine(run) -> None:
    assert settings(run) == {
        "recipe": "fd",
        "seed": 3,
        "loss": {"fd": {"weight": 2.5}},
        "optimizer": {"betas": [0.9, 0.98]},
    }


def test_flattened_names_are_those_of_set(run) -> None:
    flat = flattened(settings(run))
    assert flat == {"recipe": "fd", "seed": 3, "loss.fd.weight": 2.5, "optimizer.betas": "[0.9, 0.98]"}


def test_an_unreadable_config_is_an_error(run) -> None:
    run.config_file.write_text("no = toml = here")
    with pytest.raises(ValueError, match=r"run\.toml is not TOML"):
        settings(run)


def test_a_step_gives_its_losses_by_name_and_how_training_goes(make) -> None:
    assert scalars(make.step_done(3, 2.5)) == {
        "train/loss": 2.5,
        "train/learning_rate": 1e-3,
        "train/grad_norm": 0.5,
        "train/pairs_per_s": 80.0,
        "train/peak_mb": 300.0,
        "loss/clip": 2.0,
        "loss/fd": 0.25,
        "weighted/clip": 2.0,
        "weighted/fd": 0.5,
        "scale/student": 14.0,
    }


def test_an_evaluation_gives_its_metrics_by_split(make) -> None:
    assert scalars(make.eval_done(3, 0.5, "test")) == {"test/image_to_text_r1": 0.5}


def test_what_is_not_finite_stays_so(make) -> None:
    assert math.isnan(scalars(make.step_done(3, math.nan))["train/loss"])


@pytest.mark.parametrize(
    "event", [Warned(run="one", step=1, message="hot"), RunFinished(run="one", step=1, state="failed", elapsed_s=1)]
)
def test_other_events_have_no_numbers_to_draw(event: Event) -> None:
    assert scalars(event) == {}
