"""Loading models: built-in sizes, open_clip names, config files, sample teachers, runs, checkpoints and folders."""

import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import open_clip
from open_clip.factory import get_model_config
from torch import Tensor

from workbench.documents import read_json_table
from workbench.embeddings import SIGMOID_BIAS
from workbench.errors import reason, unknown
from workbench.models.architectures import (
    WeightsWarning,
    architecture_name,
    config_of,
    fitting_architectures,
    leaves_activation_open,
    preprocessing_of,
    usual_preprocessing,
    with_empty_branches,
)
from workbench.models.clip import Clip
from workbench.models.configs import check_counts
from workbench.models.folder import load_folder
from workbench.models.names import (
    CONFIG,
    CONFIG_KEYS,
    SIZES,
    WEIGHTS,
    ModelSpec,
    check_model,
    check_tokenizer,
    find_folder,
    open_clip_names,
    parse_model,
    run_folder,
    sample_folder,
    size_names,
)
from workbench.models.tokenizer_files import TOKENIZER, TOKENIZER_CONFIG, check_installed, find_tokenizer, in_folder
from workbench.models.tokenizers import Tokenizer, hugging_face_tokenizer, named_tokenizer
from workbench.models.towers import check_buildable
from workbench.models.weights import MisfitError, load_weights, read_weights

CONFIG_REMEDY = f"name an open_clip model config, which has {', '.join(CONFIG_KEYS)}"


def load_model(spec: str, *, seed: int | None = None, tokenizer: str = "", runs_dir: Path | None = None) -> Clip:
    """The model that a SPEC names.

    Args:
        spec: ``mini-w64``, ``open_clip:ViT-B-16@weights.pt``, ``config:file.json@weights.pt``, ``sample:scenes``,
            ``run:ID`` (its newest checkpoint), or the path of a model folder.
        seed: of the initialization, if the SPEC names an architecture only. None requires weights.
        tokenizer: replaces the tokenizer of a newly initialized model, and sets its vocabulary size.
        runs_dir: where ``run:ID`` is searched.

    Raises:
        ValueError: an unknown SPEC, missing weights, or weights that do not match.
    """
    check_model(spec, runs_dir, needs_weights=seed is None)
    parsed = parse_model(spec)
    if parsed.kind == "weights":
        return _weights_alone(Path(spec), tokenizer)
    if parsed.is_architecture:
        config, preprocess = _config_of(parsed)
        return _from_config(config, spec, seed or 0, tokenizer, preprocessing_of(preprocess))
    if tokenizer:
        raise ValueError(f"{spec} comes with its weights and tokenizer: drop student.tokenizer")
    if parsed.weights:
        return _with_weights(parsed, spec)
    if parsed.kind == "run":
        return load_folder(run_folder(parsed.name, runs_dir))
    return load_folder(sample_folder(parsed.name) if parsed.kind == "sample" else Path(parsed.name))


def _weights_alone(path: Path, tokenizer: str) -> Clip:
    """A weights file without a name: its shapes decide the architecture, and its activation is taken as GELU."""
    tensors = read_weights(path)
    spec = _spec_of(tensors, path)
    if spec != str(path):
        if tokenizer:
            raise ValueError(f"{spec} comes with its weights and tokenizer: drop student.tokenizer")
        model = _with_weights(parse_model(spec), spec, tensors)
    else:
        if tokenizer:
            raise ValueError(f"{path} comes with its weights and tokenizer: drop student.tokenizer")
        model = _from_config(_recognized(tensors, path), str(path), 0, "", {})
        tensors, added = with_empty_branches(tensors)
        load_weights(model.towers, tensors, str(path))
        if added:
            warnings.warn(
                f"{path}: the output bias of layers that lost their attention or FFN is not in the file and taken as 0 "
                f"({', '.join(added)})",
                WeightsWarning,
                stacklevel=2,
            )
    if not model.config.get("quick_gelu") and leaves_activation_open(parse_model(spec).name):
        warnings.warn(
            f"{path} does not tell its activation, and GELU is used; `workbench teacher import {path}` measures "
            "whether it or QuickGELU is right, and writes a model folder",
            WeightsWarning,
            stacklevel=2,
        )
    return model


def load_student(source: str | Path, runs_dir: Path = Path("runs")) -> Clip:
    """A trained student in eval mode: ``encode_image`` takes uint8 images, ``tokenizer`` captions.

    Args:
        source: a run's id or directory (its newest checkpoint), a checkpoint, a model folder, or a model SPEC.

    Raises:
        ValueError: there is no model at ``source``, or it is damaged.
    """
    folder = find_folder(source, runs_dir)
    return (load_folder(folder) if folder else load_model(str(source), runs_dir=runs_dir)).eval()


def spec_of_file(path: Path) -> str:
    """The SPEC of a weights file, with the architecture identified by its shapes (not its activation).

    Raises:
        ValueError: a missing file, or shapes of no known architecture or of several.
    """
    return _spec_of(read_weights(path), path)


def _spec_of(tensors: Mapping[str, Tensor], path: Path) -> str:
    """:func:`spec_of_file` of a file whose tensors are read already."""
    # The activation cannot be read from shapes: `teacher import` measures which one is right.
    names = [name for name in fitting_architectures(tensors, _architectures()) if "quickgelu" not in name]
    specs = [f"open_clip:{name}@{path}" for name in names]
    if len(specs) > 1:
        raise ValueError(f"the weights in {path} fit several architectures: name one, {' or '.join(specs)}")
    if not specs:
        _recognized(tensors, path)
    return specs[0] if specs else str(path)


def _recognized(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """The config of weights that fit no known architecture, such as an unevenly pruned student's."""
    try:
        return config_of(tensors)
    except ValueError as error:
        raise ValueError(
            f"the shapes in {path} are those of no architecture known here ({error}): name its config, "
            f"config:FILE.json@{path}, or put it into a model folder with {CONFIG} and {WEIGHTS}, as open_clip writes "
            "them"
        ) from None


def _architectures() -> dict[str, dict[str, Any]]:
    """Configs that ``open_clip:NAME`` can name: open_clip's own and the built-in sizes."""
    own = {name: _read_config(SIZES / f"{name}.json") for name in size_names()}
    return {name: get_model_config(name) for name in open_clip_names()} | own


def _config_of(spec: ModelSpec) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model config that a SPEC names, and the preprocessing that a model folder's file has next to it."""
    if spec.kind == "config":
        return _read_config(Path(spec.name)), read_json_table(Path(spec.name), CONFIG_REMEDY).get("preprocess_cfg", {})
    name = spec.name.replace("/", "-")
    return get_model_config(name) if name in open_clip_names() else _read_config(SIZES / f"{name}.json"), {}


def _with_weights(parsed: ModelSpec, spec: str, tensors: Mapping[str, Tensor] | None = None) -> Clip:
    """``open_clip:NAME@WEIGHTS`` or ``config:FILE.json@WEIGHTS``; ``tensors`` of the file, if it is read already."""
    config, preprocess = _config_of(parsed)
    path, name = parsed.weights_file or Path(), parsed.name.replace("/", "-")
    if parsed.kind == "open_clip":
        check_tokenizer(config, f"open_clip:{name}")
        check_buildable(config)  # before a download
        path, preprocess = _weights_file(name, parsed)
        # The tag knows the activation of its weights; shapes do not show it, and the wrong one only lowers accuracy.
        if preprocess.get("quick_gelu"):
            config = config | {"quick_gelu": True}
        if not parsed.weights_file:
            _download_tokenizer(config["text_cfg"].get("hf_tokenizer_name", ""))
    known = name if parsed.kind == "open_clip" else architecture_name(config)
    preprocess = preprocessing_of(preprocess) or usual_preprocessing(known, spec)
    tensors = tensors or read_weights(path)
    if "logit_bias" in tensors:  # open_clip's --siglip trains any architecture with one
        config = {"init_logit_bias": SIGMOID_BIAS} | config
    model = _from_config(config, spec, 0, "", preprocess, path.parent)
    try:
        load_weights(model.towers, tensors, str(path))
    except MisfitError as error:
        hint = _what_would_fit(name, model, tensors, path) if parsed.kind == "open_clip" else ""
        raise ValueError(f"{error}{hint}") from None
    return model


def _what_would_fit(name: str, model: Clip, tensors: Mapping[str, Tensor], path: Path) -> str:
    """A hint below the mismatch table of ``name``; empty if there is no remedy."""
    fitting = fitting_architectures(tensors, _architectures())
    if name not in fitting:
        names = " or ".join(f"open_clip:{one}" for one in fitting)
        return f"\n  the file's shapes are those of {names}" if names else ""
    tables = [tensors[one] for one in ("token_embedding.weight", "text.token_embedding.weight") if one in tensors]
    if not tables or len(tables[0]) == model.tokenizer.vocab_size:
        return ""
    # A built-in size names its own tokenizer, which may not be the one these weights were trained with.
    return f"\n  it has another tokenizer: name the config that it was trained with, config:FILE.json@{path}"


def _weights_file(name: str, spec: ModelSpec) -> tuple[Path, dict[str, Any]]:
    """A local file, or the file that open_clip downloads for a pretrained tag, with the tag's settings."""
    weights = spec.weights
    if spec.weights_file:
        return spec.weights_file, {}
    tags = open_clip.list_pretrained_tags_by_model(name)
    if weights not in tags:
        raise unknown(f"pretrained tag of {name} (or weights file)", weights, tags)
    tag = open_clip.get_pretrained_cfg(name, weights)
    try:
        with offline_if_unreachable():
            return Path(open_clip.download_pretrained(tag)), tag
    except Exception as error:  # the hub client and the network raise many kinds
        raise ValueError(
            f"cannot download {name}@{weights} ({reason(error)[:120]}): "
            f"name a local file, open_clip:{name}@/path/to/weights"
        ) from None


def _download_tokenizer(repository: str) -> None:
    """Bring a tokenizer of Hugging Face's hub into its cache, where :func:`find_tokenizer` finds it."""
    if not repository or Path(repository).exists():
        return
    from huggingface_hub import hf_hub_download

    try:
        with offline_if_unreachable():
            for name in (TOKENIZER, TOKENIZER_CONFIG):
                hf_hub_download(repository, name)
    except Exception as error:  # the hub client and the network raise many kinds
        raise ValueError(
            f"cannot download the tokenizer {repository} ({reason(error)[:120]}): put its {TOKENIZER} and "
            f"{TOKENIZER_CONFIG} next to a weights file, and name that with open_clip:NAME@/path/to/weights"
        ) from None


def _read_config(path: Path) -> dict[str, Any]:
    content = read_json_table(path, CONFIG_REMEDY)
    config = content.get("model_cfg", content)
    kinds = dict(zip(CONFIG_KEYS, (int | float | str, dict, dict), strict=True))
    if not isinstance(config, dict) or not all(isinstance(config.get(key), kind) for key, kind in kinds.items()):
        raise ValueError(f"{path} is another kind of file: {CONFIG_REMEDY}")
    return config


def _from_config(
    config: dict[str, Any],
    spec: str,
    seed: int,
    tokenizer: str,
    preprocess: Mapping[str, Any],
    near: Path | None = None,
) -> Clip:
    """A model with random weights. Its tokenizer is the named one, else the config's own.

    Args:
        preprocess: arguments of :class:`Clip`: mean, std and resizing.
        near: the folder of the weights, where a tokenizer of Hugging Face is searched first.
    """
    own = config.pop("tokenizer", "bpe")  # named by built-in sizes; open_clip's configs imply its byte-pair tokenizer
    text = config["text_cfg"]
    check_tokenizer(config, spec)
    check_counts(config)  # before the tokenizer reads context_length
    made = _tokenizer(text, tokenizer, own, spec, near)
    text["vocab_size"], text["context_length"] = made.vocab_size, made.context_length
    return Clip(config, made, seed=seed, **preprocess)


def _tokenizer(text: dict[str, Any], named: str, own: str, spec: str, near: Path | None) -> Tokenizer:
    """The tokenizer called ``named``, or the one that a ``text_cfg`` implies; ``text`` then names the right one."""
    if text.get("hf_tokenizer_name") and not named:
        try:
            return hugging_face_tokenizer(find_tokenizer(text, near), text)
        except ValueError as error:
            hint = "" if near else "; or name another with student.tokenizer"
            raise ValueError(f"{spec}: {reason(error)}{hint}") from None
    if file := in_folder(Path(named)) if named else None:
        check_installed(named)
        text["hf_tokenizer_name"] = str(file.parent)
        return hugging_face_tokenizer(file, text | {"vocab_size": 0})
    for setting in ("hf_tokenizer_name", "tokenizer_kwargs"):  # open_clip reads them from an exported model
        text.pop(setting, None)
    return named_tokenizer(named or own, text.get("context_length", 77))


@contextmanager
def offline_if_unreachable() -> Iterator[None]:
    """Context in which the hub client uses its cache only if the hub has no address; otherwise it retries for a minute.

    Raises:
        ConnectionError: instead of the client's error, if the hub is unreachable and the file is not cached.
    """
    from huggingface_hub import constants

    host, was_offline = str(urlsplit(constants.ENDPOINT).hostname), constants.HF_HUB_OFFLINE
    is_offline = not was_offline and not _has_address(host)
    constants.HF_HUB_OFFLINE = was_offline or is_offline
    try:
        yield
    except Exception as error:
        if is_offline:
            raise ConnectionError(f"{host} cannot be reached, and its cache has no such file") from error
        raise
    finally:
        constants.HF_HUB_OFFLINE = was_offline


def _has_address(host: str) -> bool:
    if getproxies():  # a proxy resolves it
        return True
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return False
    return True
