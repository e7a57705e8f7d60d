"""Files of Hugging Face tokenizers, which SigLIP's configs name: where they are. Needs no torch."""

import json
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
OPTIONS = ("clean", "strip_sep_token")  # of open_clip's HFTokenizer


def tokenizer_options(text: Mapping[str, Any]) -> dict[str, Any]:
    """``text_cfg.tokenizer_kwargs``: how open_clip's HFTokenizer cleans captions.

    Raises:
        ValueError: options that the workbench does not have.
    """
    options = dict(text.get("tokenizer_kwargs") or {})
    if unknown := sorted(set(options) - set(OPTIONS)):
        raise ValueError(f"text_cfg.tokenizer_kwargs has {', '.join(unknown)}: only {' and '.join(OPTIONS)} are known")
    return options


def find_tokenizer(text: Mapping[str, Any], near: Path | None = None) -> Path:
    """The ``tokenizer.json`` of a ``text_cfg`` with an ``hf_tokenizer_name``.

    It is searched next to the weights, then where the name is a path, then in the cache of Hugging Face's hub.

    Args:
        near: the folder of the weights.

    Raises:
        ValueError: there is none, or the package ``tokenizers`` is not installed.
    """
    name = str(text["hf_tokenizer_name"])
    check_installed(name)
    tokenizer_options(text)
    for folder in (near, Path(name)):
        if folder is not None and (found := in_folder(folder)):
            return found
    if cached := _in_hub_cache(name):
        return cached
    for folder in (near, Path(name)):
        if folder is not None:
            refuse_sentencepiece(folder)
    raise ValueError(
        f"it needs the tokenizer {name}: put its {TOKENIZER} and {TOKENIZER_CONFIG} next to the weights, or name a "
        "folder that has them as text_cfg.hf_tokenizer_name of a config:FILE.json"
    )


def in_folder(path: Path) -> Path | None:
    """The Hugging Face ``tokenizer.json`` of a folder, or a path of that file; None if it is none."""
    file = path / TOKENIZER if path.is_dir() else path
    with suppress(OSError, ValueError):
        # The workbench's own tokenizer.json has a kind, and no model.
        content = json.loads(file.read_bytes())
        return file if isinstance(content, dict) and isinstance(content.get("model"), dict) else None
    return None


def refuse_sentencepiece(path: Path) -> None:
    """Refuse a SentencePiece model, or a folder with one, that has no ``tokenizer.json``.

    The file has the pieces only; which tokens are added, and how captions are cleaned before, is in transformers' code.

    Raises:
        ValueError: with the command that writes ``tokenizer.json``.
    """
    found = (
        next(iter(sorted(path.glob("*.model"))), None) if path.is_dir() else path if path.suffix == ".model" else None
    )
    if found and found.is_file():
        folder = found.parent
        raise ValueError(
            f"{found} is SentencePiece's own format, without the special tokens that the model was trained with: write "
            f'its {TOKENIZER} with transformers, python -c "from transformers import AutoTokenizer; '
            f"AutoTokenizer.from_pretrained('{folder}').save_pretrained('{folder}')\""
        )


def check_installed(name: str) -> None:
    """Raise ValueError unless the package ``tokenizers`` is installed."""
    from workbench.adapters.sink import PROJECT  # here, as an exported student is loaded without the adapters

    if find_spec("tokenizers") is None:
        raise ValueError(f"the tokenizer {name} needs tokenizers, which is not installed: pip install '{PROJECT}[hf]'")


def _in_hub_cache(repository: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    with suppress(HFValidationError):  # a path is no repository
        found = try_to_load_from_cache(repository, TOKENIZER)
        return Path(found) if isinstance(found, str) else None
    return None
