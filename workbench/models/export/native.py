"""The workbench's own model folder, which ``workbench.load_student`` reads; any architecture."""

import json
from pathlib import Path
from typing import Any

import torch

from workbench.files import write_atomically
from workbench.models.clip import Clip
from workbench.models.export.probe import Probe, checked
from workbench.models.folder import TOKENIZER, load_folder, save_folder
from workbench.models.tokenizers import Tokenizer

TOLERANCE = 1e-6
RULES = {
    "words": (
        "words are the matches of the regular expression \\w+ in the lower-case caption, the first context_length - 1; "
        "an id is 1 + the word's place in the list, counted from 0, or for any other word "
        "1 + len(words) + crc32(its UTF-8) % num_buckets; the end id len(words) + num_buckets + 1 follows, "
        "then 0 up to context_length"
    ),
    "bpe": "CLIP's byte pairs: open_clip.tokenizer.SimpleTokenizer(context_length=context_length)",
}


def write_native(model: Clip, folder: Path, dtype: torch.dtype) -> float:
    """Write a model folder whose ``tokenizer.json`` also says in words how captions become ids.

    Returns:
        the largest difference between the unit-length embeddings of what is read back and the model's.

    Raises:
        MismatchError: it does not read back as it was.
    """
    write_model_folder(model, folder, dtype)
    probe, again = Probe.of(model), load_folder(folder).eval()
    with torch.no_grad():
        found = again.embed(probe.image_BCHW, probe.text_BL)
    return checked(probe.difference(found.image_BD, found.text_BD), TOLERANCE, "the workbench")


def write_model_folder(model: Clip, folder: Path, dtype: torch.dtype) -> None:
    """The folder alone, unchecked."""
    save_folder(model, folder, dtype)
    write_atomically(folder / TOKENIZER, json.dumps(tokenizer_document(model.tokenizer)) + "\n")


def tokenizer_document(tokenizer: Tokenizer) -> dict[str, Any]:
    """What a reader without the workbench must know to make ids of captions."""
    return tokenizer.spec | {"rule": RULES[tokenizer.spec["kind"]]}
