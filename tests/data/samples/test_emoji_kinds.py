"""The kinds of the emoji: every held-out name has one, and prompts are names from training."""

import itertools
import json
from collections import Counter
from pathlib import Path

import pytest

from workbench.data.evaluation_set import EvaluationSet, open_evaluation_set
from workbench.data.samples import emoji_kinds
from workbench.data.samples.emoji_kinds import KINDS_FILE, zero_shot
from workbench.data.spec import open_dataset

KINDS = json.loads((Path(__file__).parents[3] / "data_samples" / "emoji" / KINDS_FILE).read_text())


def names(split: str) -> list[str]:
    dataset = open_dataset(f"samples:emoji/{split}", "test")
    return [dataset.text(index).captions[0] for index in range(len(dataset))]


def test_every_held_out_name_has_one_kind() -> None:
    listed = Counter(itertools.chain.from_iterable(kind["held_out"] for kind in KINDS.values()))
    assert listed == Counter(names("validation") + names("test"))


def test_prompts_are_names_that_training_has() -> None:
    prompts = list(itertools.chain.from_iterable(kind["prompts"] for kind in KINDS.values()))
    assert len(prompts) == len(set(prompts))
    assert set(prompts) <= set(names("train"))
    assert min(len(kind["prompts"]) for kind in KINDS.values()) >= 8


def test_a_held_out_emoji_is_of_its_kind() -> None:
    evaluation = open_evaluation_set("samples:emoji/test", "test")
    kinds = {names[0]: kind for names, kind in zip(zero_shot().classes, KINDS, strict=True)}
    found = dict(zip(evaluation.captions, [kinds[answer] for (answer,) in evaluation.answers_N], strict=True))
    expected = {"five oclock": "clock", "heart hands": "part of the body", "cat with tears of joy": "animal"}
    assert {name: found[name] for name in expected} == expected


def test_training_emoji_have_none() -> None:
    evaluation = EvaluationSet(open_dataset("samples:emoji", "train", 20), zero_shot())
    assert evaluation.answers_N is None


def test_missing_kinds_are_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.data.samples.emoji.find_resource", lambda _: None)
    monkeypatch.setattr(emoji_kinds, "_kinds", emoji_kinds._kinds.__wrapped__)
    with pytest.raises(ValueError, match="install clip-distillation-workbench again"):
        zero_shot.__wrapped__()
