"""Which concepts are held out: some of those whose names are made of words of training names.

The concepts are walked through in the order of a hash. One is held out if every word of its name is also in the name of
another concept not held out by then: "grinning cat", for one, since there are "grinning squinting face" and "cat face".
So the last name with a word always stays, and a model that learns names word by word can know every name held out.
Those held out go to validation and test by turns until each has 135; all other concepts are for training.

Flags of countries and regions are for training only, and their names vouch for no word: nobody can name a flag
without having been told. Concepts newer than version 15.1 of Unicode's emoji are for training only too, so that a
later font or package, which knows more of them, moves no other from split to split.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Literal

from workbench.data.samples.emoji.captions import captions_by_sequence
from workbench.data.samples.emoji.concepts import concept_of, is_country_flag, one_each
from workbench.randomness import derive_seed

NEWEST = 15.1  # the last version of Unicode's emoji that font 2.042 has whole
CONCEPTS_PER_SPLIT = 135

Split = Literal["train", "validation", "test"]


def split_of(sequence: str) -> Split:
    """The split of an emoji, which is that of its concept.

    Raises:
        ValueError: the package `emoji`, on whose names the splits depend, is not installed.
    """
    return held_out().get(concept_of(sequence), "train")


@cache
def held_out() -> dict[str, Split]:
    """The split of every concept that is not for training; found once, since it takes the whole list of emoji."""
    captions = dict(captions_by_sequence(NEWEST))
    names = {concept: captions[s][0] for concept, s in one_each(captions).items() if not is_country_flag(s)}
    places: tuple[Split, ...] = ("validation", "test") * CONCEPTS_PER_SPLIT
    return dict(zip(sparable(names), places, strict=False))


def sparable(names: Mapping[str, str]) -> Iterator[str]:
    """Concepts, by their names, that training can spare one after the other and still hold every word of theirs."""
    in_training = Counter(word for name in names.values() for word in set(name.split()))
    for concept in sorted(names, key=lambda concept: derive_seed(0, "emoji split", concept)):
        words = set(names[concept].split())
        if all(in_training[word] > 1 for word in words):
            in_training.subtract(words)
            yield concept
