"""Settings parsed from the source are those of the loss classes."""

import inspect
from pathlib import Path
from typing import get_args

import pytest

from workbench.config.run import LossConfig
from workbench.losses import LOSSES
from workbench.losses.base import Convention
from workbench.losses.declared import CONVENTIONS, check_losses, declared_losses, settings_in_file


def test_parsed_settings_are_those_of_the_classes() -> None:
    declared = declared_losses()
    assert list(declared) == list(LOSSES)
    for name, loss in LOSSES.items():
        defaults = {key: parameter.default for key, parameter in inspect.signature(loss).parameters.items()}
        assert declared[name] == (defaults, loss.paper, loss.published_weight)
    assert get_args(Convention) == CONVENTIONS


BODY = "    def __call__(self, comparison):\n        return comparison.student.scale\n"
KNOWN = {
    "from workbench.losses import Loss\nclass Mine(Loss):\n    def __init__(self, margin=1, *, hard=False):\n"
    "        super().__init__()\n": ["margin", "hard"],
    "import workbench.losses.base as base\nclass Mine(base.Loss):\n    pass\n": ["convention"],
    "from workbench.losses.mfd import MfdLoss\nclass Mine(MfdLoss):\n    pass\n": [
        "convention",
        "mask_ratio",
        "mask_feeds",
    ],
}
OPEN = {
    "keyword arguments of any name": "from workbench.losses import Loss\nclass Mine(Loss):\n"
    "    def __init__(self, **options):\n        super().__init__()\n",
    "a class of another name": "from workbench.losses import Loss as L\nclass Mine(L):\n    pass\n",
    "two losses": "from workbench.losses import Loss\nclass One(Loss):\n    pass\nclass Two(Loss):\n    pass\n",
    "no Python": "class Mine(\n",
    "no text": "\0",
    "brackets without end": "(" * 100_000,
}


@pytest.mark.parametrize("source", KNOWN, ids=["its own", "the base's", "those of a loss that it extends"])
def test_the_settings_of_a_users_file_are_read_and_the_file_is_not_run(tmp_path: Path, source: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"{source}{BODY}\nraise SystemExit('was run')\n")
    assert settings_in_file(str(file)) == KNOWN[source]


@pytest.mark.parametrize("source", OPEN.values(), ids=list(OPEN))
def test_settings_that_need_running_the_file_are_unknown(tmp_path: Path, source: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(source)
    assert settings_in_file(str(file)) is None
    check_losses({"mine": LossConfig(file=str(file), anything=1)})


@pytest.mark.parametrize(
    ("name", "table", "remedy"),
    [
        ("icll", {}, "'icl'"),
        ("mfd", {"mask_ratoi": 0.5}, "'mask_ratio'"),
        ("mfd", {"wieght": 1}, "'weight'"),
        ("fd", {"convention": "relesed"}, "'released'"),
        ("fd", {"convention": ["paper"]}, "convention"),
        ("mine", {"file": "gone.py"}, "gone.py"),
    ],
)
def test_a_typo_is_refused_with_the_nearest_name(name: str, table: dict[str, object], remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        check_losses({name: LossConfig.parse(table)})
    check_losses({"fd": LossConfig(weight=0.0, convention="paper"), "icl": LossConfig(scale=3)})
