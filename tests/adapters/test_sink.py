import pytest

from workbench.adapters.sink import flattened, settings


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


def test_a_config_that_cannot_be_read_is_said(run) -> None:
    run.config_file.write_text("no = toml = here")
    with pytest.raises(ValueError, match=r"run\.toml is not TOML"):
        settings(run)
