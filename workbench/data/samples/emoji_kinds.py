"""Zero-shot classification of the emoji samples: twelve kinds, such as "face" and "clock".

Every held-out emoji has a name of its own, so that classifying by names would repeat retrieval. Instead each belongs to
a kind, assigned by hand in ``data_samples/emoji/kinds.json``. The prompts of a kind are names of its emoji in training:
captions that a student has seen, while the images are new.
"""

import json
from functools import cache

from workbench.data.dataset import SampleText, ZeroShotTask
from workbench.data.samples.emoji import shipped_text

KINDS_FILE = "kinds.json"


@cache
def zero_shot() -> ZeroShotTask:
    """The twelve kinds, of which training emoji have none.

    Raises:
        ValueError: the shipped kinds are missing.
    """
    # Names are prompts as they are, since captions have no articles.
    return ZeroShotTask(tuple(tuple(kind["prompts"]) for kind in _kinds()), ("{}",), verbatim=True, answers=_kind_of)


def _kind_of(text: SampleText) -> tuple[str, ...]:
    """The first prompt of the kind of a held-out emoji, whose only caption is its name; nothing for others."""
    return tuple(kind["prompts"][0] for kind in _kinds() if text.captions[0] in kind["held_out"])


@cache
def _kinds() -> tuple[dict[str, list[str]], ...]:
    return tuple(json.loads(shipped_text(KINDS_FILE)).values())
