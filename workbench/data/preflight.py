"""A short look at training data before a night is spent on them: nonsense is refused, and what is odd is said."""

from collections.abc import Iterator

from workbench.data.captions import Captions, captions_of, share_filling
from workbench.data.picture_files import spread
from workbench.data.pictures import look_at
from workbench.data.sample import Dataset
from workbench.embeddings import InputForm

NUM_PICTURES = 48
MANY_FALSE_NEGATIVES = 0.5  # to a pair, in a batch
MANY_CUT = 0.2  # of the captions


def preflight(dataset: Dataset, form: InputForm, batch_size: int) -> list[str]:
    """What a person should know of the pairs before they are trained on: a few lines, or none.

    All captions are compared, and a few dozen pictures from all over the data decoded.

    Args:
        form: what the student is fed; its tokenizer says which captions are too long.

    Raises:
        ValueError: nothing can be learnt from the pairs: all captions or all pictures are the same, or hardly a picture
            can be used.
    """
    captions = captions_of(dataset)
    check_captions(captions)
    pictures = look_at(dataset, spread(len(dataset), NUM_PICTURES))
    pictures.check()
    notes = list(_notes(dataset, captions, form, batch_size))
    if pictures.tally.num_unusable:
        notes.append(f"of some pictures looked at, these cannot be used: {pictures.tally.describe()}")
    return notes


def check_captions(captions: Captions) -> None:
    """Refuses captions that tell nothing apart.

    Raises:
        ValueError: they are all the same.
    """
    if len(captions.group_N) > 1 and captions.num_distinct == 1:
        raise ValueError(
            f"all {len(captions.group_N):,} pairs have the caption {captions.first[:60]!r}, so that nothing tells them "
            "apart: check where the captions are read from"
        )


def _notes(dataset: Dataset, captions: Captions, form: InputForm, batch_size: int) -> Iterator[str]:
    expected = captions.false_negative_share * (batch_size - 1)
    if expected >= MANY_FALSE_NEGATIVES:
        yield (
            f"{len(captions.group_N):,} pairs share {captions.num_distinct:,} captions: in a batch of {batch_size}, "
            f"{expected:.1f} of a pair's {batch_size - 1} negatives have its caption on average"
        )
    filling = share_filling(dataset, form.tokenize)
    if filling >= MANY_CUT:
        length = form.tokenize([captions.first]).shape[1]
        yield (
            f"about {filling:.0%} of the captions fill the {length} tokens that the student reads, or are cut there: "
            "one with a longer text_cfg.context_length reads more"
        )
