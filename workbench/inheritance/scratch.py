"""The same architecture from random weights: what inheritance is measured against."""

from workbench.inheritance.slicing import rebuilt
from workbench.models.clip import Clip
from workbench.models.towers import split_weights


def with_random_weights(student: Clip, seed: int) -> Clip:
    """A model built like ``student`` that has learnt nothing; a frozen tower keeps its weights, and stays frozen.

    Args:
        seed: of the initial weights.
    """
    fresh = Clip(student.config, student.tokenizer, mean=student.mean, std=student.std, seed=seed)
    parts = split_weights(fresh.towers.state_dict())
    for tower in student.frozen:
        parts[tower] = split_weights(student.towers.state_dict())[tower]
    made = rebuilt(student, student.config, parts)
    for tower in student.frozen:
        made.freeze(tower)
    return made
