"""Model SPEC -> model: built-in sizes, open_clip names, config files, sample teachers and finished runs."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
from open_clip.factory import get_model_config
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from torch import Tensor

from workbench.documents import read_json
from workbench.errors import reason, unknown
from workbench.models.clip import Clip
from workbench.models.folder import load_folder
from workbench.models.names import (
    CONFIG,
    OF_A_CONFIG,
    SIZES,
    WEIGHTS,
    check_model,
    open_clip_names,
    run_folder,
    sample_folder,
    size_names,
    unknown_architecture,
    without_weights,
)
from workbench.models.offline import without_waiting
from workbench.models.preprocessing import architecture_name, usual_normalization
from workbench.models.tokenizers import named_tokenizer
from workbench.models.towers import check_buildable
from workbench.models.weights import MisfitError, load_weights, read_weights

# Which architectures a file of weights fits: its shapes say almost all of a model's config.

Description = tuple[Any, ...]

_TEXT_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.")
_VISION_BLOCK = re.compile(r"visual\.transformer\.resblocks\.(\d+)\.")
_STAGE = re.compile(r"visual\.layer([1-4])\.(\d+)\.")


def fitting_architectures(tensors: Mapping[str, Tensor], configs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The names of the configs with the shapes of these weights, those with the usual activation first.

    What shapes do not show is left open: the activation, and into how many heads a width is divided.
    """
    found = _described(tensors)
    names = [name for name, config in configs.items() if found and _description(config) == found]
    return sorted(names, key=lambda name: bool(configs[name].get("quick_gelu")))


def _description(config: Mapping[str, Any]) -> Description | None:
    """What a config says of shapes; None for towers that are not open_clip's own."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    if vision.get("timm_model_name") or text.get("hf_model_name"):
        return None
    image, caption = (
        {name: section.get(name, getattr(defaults, name)) for name in names}
        for section, defaults, names in (
            (vision, CLIPVisionCfg(), ("image_size", "patch_size", "width", "layers")),
            (text, CLIPTextCfg(), ("vocab_size", "context_length", "width", "layers")),
        )
    )
    if isinstance(image["layers"], list):
        image |= {"patch_size": None, "layers": tuple(image["layers"])}
    return (config["embed_dim"], *image.values(), *caption.values())


def _described(tensors: Mapping[str, Tensor]) -> Description | None:
    """The same, read from the weights; None where the names are not those of open_clip."""
    named = {name.removeprefix("text."): tensor for name, tensor in tensors.items()}
    try:
        vocab_size, text_width = named["token_embedding.weight"].shape
        text = (vocab_size, len(named["positional_embedding"]), text_width, _count(_TEXT_BLOCK, named))
        image = _resnet(named) if "visual.layer1.0.conv1.weight" in named else _vit(named)
        return (named["text_projection"].shape[1], *image, *text)
    except (KeyError, ValueError, IndexError):
        return None


def _vit(named: Mapping[str, Tensor]) -> Description:
    width, _, patch_size, _ = named["visual.conv1.weight"].shape
    side = round((len(named["visual.positional_embedding"]) - 1) ** 0.5)
    return (side * patch_size, patch_size, width, _count(_VISION_BLOCK, named))


def _resnet(named: Mapping[str, Tensor]) -> Description:
    width = 2 * len(named["visual.conv1.weight"])
    side = round((len(named["visual.attnpool.positional_embedding"]) - 1) ** 0.5)
    blocks = {match.groups() for name in named if (match := _STAGE.match(name))}
    stages = [stage for stage, _ in blocks]
    return (side * 32, None, width, tuple(stages.count(stage) for stage in "1234"))


def _count(block: re.Pattern[str], names: Mapping[str, Tensor]) -> int:
    return len({match[1] for name in names if (match := block.match(name))})


def load_model(spec: str, *, seed: int | None = None, tokenizer: str = "", runs_dir: Path | None = None) -> Clip:
    """The model that a SPEC names.

    Args:
        spec: ``mini-w64``, ``open_clip:ViT-B-16@weights.pt``, ``config:file.json@weights.pt``, ``sample:scenes``,
            ``run:ID`` (its newest checkpoint), or the path of a model folder.
        seed: of the initial weights, where the SPEC names an architecture only.
            Without a seed, weights are demanded.
        tokenizer: replaces the model's own where an architecture is built afresh; sizes its vocabulary.
        runs_dir: where ``run:ID`` looks.

    Raises:
        ValueError: the SPEC names nothing, needs weights and has none, or the weights do not fit.
    """
    check_model(spec, runs_dir, needs_weights=seed is None)
    kind, colon, rest = spec.partition(":")
    if kind == "open_clip" and colon:
        return _open_clip(rest, seed, tokenizer)
    if kind == "config" and colon:
        return _config_file(rest, seed, tokenizer)
    if kind == "sample" and colon:
        return _folder(sample_folder(rest), spec, tokenizer)
    if kind == "run" and colon:
        return _folder(run_folder(rest, runs_dir), spec, tokenizer)
    if spec in size_names():
        return _from_config(_read_config(SIZES / f"{spec}.json"), spec, seed, tokenizer)
    if Path(spec).is_dir():
        return _folder(Path(spec), spec, tokenizer)
    raise ValueError(
        f"{spec} holds weights alone; name their architecture: {' or '.join(_fitting(Path(spec)))}; "
        f"`workbench teacher import {spec}` finds out which"
    )


def absolute_spec(spec: str) -> str:
    """The same SPEC with its paths absolute, so that it means the same from every working directory."""
    kind, colon, rest = spec.partition(":")
    if kind in ("open_clip", "config") and colon:
        name, at, weights = (rest, "", "") if Path(rest).is_file() else rest.partition("@")
        named = _absolute(name) if kind == "config" else name
        return f"{kind}:{named}{at}{_absolute(weights)}"
    if kind == "run" and colon:
        return f"run:{_absolute(rest)}" if "/" in rest else spec
    return spec if spec in size_names() or not Path(spec).is_dir() else _absolute(spec)


def _absolute(path: str) -> str:
    """A path that is not there stays as it was written: it is a name, or an error will name it."""
    return str(Path(path).absolute()) if path and Path(path).exists() else path


def spec_of_file(path: Path) -> str:
    """The SPEC of a file of weights, its architecture told by its shapes, which leave the activation open.

    Raises:
        ValueError: there is no such file, or its shapes are those of no architecture, or of several.
    """
    specs = [spec for spec in _fitting(path) if "quickgelu" not in spec]
    if len(specs) != 1:
        raise ValueError(f"the weights in {path} fit several architectures: name one, {' or '.join(specs)}")
    return specs[0]


def _fitting(path: Path) -> list[str]:
    """The SPECs with which a file of weights would fit."""
    names = fitting_architectures(read_weights(path), _architectures())
    if not names:
        raise ValueError(
            f"the shapes in {path} are those of no architecture known here: name its config, config:FILE.json@{path}, "
            f"or make a model folder of it, with {CONFIG} and {WEIGHTS} as open_clip writes them"
        )
    return [f"open_clip:{name}@{path}" for name in names]


def _architectures() -> dict[str, dict[str, Any]]:
    """The configs that ``open_clip:NAME`` may name: open_clip's own, and the built-in sizes."""
    own = {name: _read_config(SIZES / f"{name}.json") for name in size_names()}
    return {name: get_model_config(name) for name in open_clip_names()} | own


def _folder(folder: Path, spec: str, tokenizer: str) -> Clip:
    if tokenizer:
        raise ValueError(f"{spec} comes with its weights and tokenizer: drop student.tokenizer")
    return load_folder(folder)


def _open_clip(rest: str, seed: int | None, tokenizer: str) -> Clip:
    name, _, weights = rest.partition("@")
    name = name.replace("/", "-")
    if name in open_clip_names():
        config = get_model_config(name)
    elif name in size_names():
        config = _read_config(SIZES / f"{name}.json")
    else:
        raise unknown_architecture(name)
    if not weights:
        return _from_config(config, f"open_clip:{name}", seed, tokenizer)
    if tokenizer:
        raise ValueError(f"open_clip:{rest} comes with its weights and tokenizer: drop student.tokenizer")
    _check_tokenizer(config, f"open_clip:{name}")
    check_buildable(config)
    path, preprocess = _weights_file(name, weights)
    if preprocess.get("quick_gelu"):
        config = config | {"quick_gelu": True}
    tensors = read_weights(path)
    model = _from_config(config, f"open_clip:{rest}", 0, "", preprocess)
    try:
        load_weights(model.towers, tensors, str(path))
    except MisfitError as error:
        raise ValueError(f"{error}{_what_would_fit(name, model, tensors, path)}") from None
    return model


def _what_would_fit(name: str, model: Clip, tensors: Mapping[str, Tensor], path: Path) -> str:
    """A line to go under the table of what did not fit ``name``; empty where there is no remedy."""
    fitting = fitting_architectures(tensors, _architectures())
    if name not in fitting:
        names = " or ".join(f"open_clip:{one}" for one in fitting)
        return f"\n  the file's shapes are those of {names}" if names else ""
    tables = [tensors[one] for one in ("token_embedding.weight", "text.token_embedding.weight") if one in tensors]
    if not tables or len(tables[0]) == model.tokenizer.vocab_size:
        return ""
    # A built-in size names a tokenizer of its own in place of its config's.
    return f"\n  it has another tokenizer: name the config that it was trained with, config:FILE.json@{path}"


def _config_file(rest: str, seed: int | None, tokenizer: str) -> Clip:
    """``FILE.json`` or ``FILE.json@WEIGHTS``; where the file is a model folder's, its normalization counts too."""
    name, at, weights = (rest, "", "") if Path(rest).is_file() else rest.partition("@")
    config = _read_config(Path(name))
    preprocess = _read_json(Path(name)).get("preprocess_cfg", {})
    if not at:
        return _from_config(config, f"config:{rest}", seed, tokenizer, preprocess)
    if not preprocess:
        preprocess = usual_normalization(architecture_name(config), f"config:{rest}")._asdict()
    if tokenizer:
        raise ValueError(f"config:{rest} comes with its weights and tokenizer: drop student.tokenizer")
    model = _from_config(config, f"config:{rest}", 0, "", preprocess)
    load_weights(model.towers, read_weights(Path(weights)), weights)
    return model


def _weights_file(name: str, weights: str) -> tuple[Path, dict[str, Any]]:
    """A local file, or what open_clip's own code downloads for a pretrained tag, with the tag's preprocessing."""
    if Path(weights).suffix or Path(weights).is_file():
        return Path(weights), usual_normalization(name, f"open_clip:{name}@{weights}")._asdict()
    tags = open_clip.list_pretrained_tags_by_model(name)
    if weights not in tags:
        raise unknown(f"pretrained tag of {name} (or weights file)", weights, tags)
    tag = open_clip.get_pretrained_cfg(name, weights)
    try:
        with without_waiting():
            return Path(open_clip.download_pretrained(tag)), tag
    except Exception as error:  # any of the hub client's and the network's many
        raise ValueError(
            f"cannot download {name}@{weights} ({reason(error)[:120]}): "
            f"name a local file, open_clip:{name}@/path/to/weights"
        ) from None


def _read_config(path: Path) -> dict[str, Any]:
    content = _read_json(path)
    config = content.get("model_cfg", content)
    kinds = dict(zip(OF_A_CONFIG, (int, dict, dict), strict=True))
    if not isinstance(config, dict) or not all(isinstance(config.get(key), kind) for key, kind in kinds.items()):
        raise ValueError(f"{path} is no open_clip model config: it needs {', '.join(kinds)}")
    return config


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except OSError as error:
        raise ValueError(f"cannot read the model config {path}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"cannot read the model config {path}: {error}") from None
    return content if isinstance(content, dict) else {}


def _check_tokenizer(config: Mapping[str, Any], spec: str) -> None:
    if foreign := config["text_cfg"].get("hf_tokenizer_name"):
        raise ValueError(f"{spec} needs the tokenizer {foreign}, which the workbench does not read; pick a CLIP size")


def _from_config(
    config: dict[str, Any],
    spec: str,
    seed: int | None,
    tokenizer: str,
    preprocess: Mapping[str, Any] | None = None,
) -> Clip:
    if seed is None:
        raise without_weights(spec)
    own = config.pop("tokenizer", "bpe")  # our sizes name theirs; open_clip's own configs mean its byte-pair one
    text = config["text_cfg"]
    _check_tokenizer(config, spec)
    made = named_tokenizer(tokenizer or own, text.get("context_length", 77))
    text["vocab_size"], text["context_length"] = made.vocab_size, made.context_length
    normalization = {key: preprocess[key] for key in ("mean", "std") if preprocess and key in preprocess}
    return Clip(config, made, seed=seed, **normalization)
