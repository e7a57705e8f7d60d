"""Weights files from elsewhere: unwrapped, refused or explained."""

import copy
import hashlib
import math
import os
import pickle
import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from workbench.models.weights import SHOWN, load_weights, read_weights, unwrap, weights_sha256


class Payload:
    """Unpickling this creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def small():
    return nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))


def prefixed(prefix, weights):
    return {prefix + name: tensor for name, tensor in weights.items()}


WRAPPINGS = {
    "plain": lambda weights: weights,
    "state_dict": lambda weights: {"epoch": 3, "state_dict": weights},
    "model_state_dict": lambda weights: {"model_state_dict": weights},
    "module.": lambda weights: prefixed("module.", weights),
    "_orig_mod.": lambda weights: prefixed("_orig_mod.", weights),
    "module._orig_mod.": lambda weights: prefixed("module._orig_mod.", weights),
    "towers.": lambda weights: prefixed("towers.", weights),
    "the papers'": lambda weights: {"epoch": 32, "name": "run", "state_dict": prefixed("module.", weights)},
    "nested": lambda weights: {"model": {"state_dict": prefixed("module.", weights)}, "optimizer": {"state": {}}},
    "student": lambda weights: {"student": prefixed("_orig_mod.module.", weights)},
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)
def test_the_usual_wrappings_of_pytorch_files_are_undone(tmp_path, wrap, zipped):
    module = small()
    torch.save(wrap(module.state_dict()), tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    check_loads(module, tmp_path / "w.pt")


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "towers."])
def test_the_usual_prefixes_of_safetensors_are_undone(tmp_path, prefix):
    module = small()
    save_file(prefixed(prefix, module.state_dict()), tmp_path / "w.safetensors")
    check_loads(module, tmp_path / "w.safetensors")


def check_loads(module, path):
    tensors = read_weights(path)
    assert tensors.keys() == module.state_dict().keys()
    copy = small()
    load_weights(copy, tensors, str(path))
    assert all(torch.equal(copy.state_dict()[name], tensor) for name, tensor in module.state_dict().items())


def test_a_prefix_that_not_every_name_has_is_part_of_the_names():
    weights = {"module.a": torch.ones(1), "b": torch.ones(2)}
    assert unwrap(weights).keys() == weights.keys()


def test_a_weight_called_like_a_wrapper_is_a_weight():
    weights = {"model": torch.ones(1), "student": torch.ones(2), "step": 3}
    assert unwrap(weights).keys() == {"model", "student"}


@pytest.mark.parametrize("content", [{}, {"a": 1}, [1, 2], torch.ones(2), {"state_dict": {"epoch": 3}}, 7])
def test_a_file_without_named_tensors_is_refused(tmp_path, content):
    path = tmp_path / "w.pt"
    torch.save(content, path)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} holds no tensors under any of the usual names"):
        read_weights(path)


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"\x00", b"PK\x03\x04", b"not weights at all\n" * 10, b"\x80\x02."])
def test_what_is_no_weights_file_is_refused_in_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    check_refused(tmp_path / name)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_truncated_file_is_refused_in_one_line(tmp_path, kind):
    path = tmp_path / f"w.{kind}"
    if kind == "safetensors":
        save_file(small().state_dict(), path)
    else:
        torch.save(small().state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    for size in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:size])
        check_refused(path)


def check_refused(path):
    with pytest.raises(ValueError, match=rf"\A(cannot read weights from )?{re.escape(str(path))}( is refused)?: .+\Z"):
        read_weights(path)


def test_a_missing_file_is_named(tmp_path):
    for path in (tmp_path / "gone.pt", tmp_path):
        with pytest.raises(ValueError, match=f"^no weights at {re.escape(str(path))}: check the path$"):
            read_weights(path)


@pytest.mark.parametrize("write", ["zip", "legacy", "pickle"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path, monkeypatch, write, recwarn):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path, made = tmp_path / "w.pt", tmp_path / "made"
    content = {"state_dict": {"a": torch.ones(1)}, "args": Payload(made)}
    if write == "pickle":
        path.write_bytes(pickle.dumps(Payload(made)))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=write == "zip")
    with pytest.raises(ValueError, match=rf"\A{re.escape(str(path))} is refused: .* best as \.safetensors\Z"):
        read_weights(path)
    assert not made.exists()
    assert not recwarn.list
    torch.load(path, weights_only=False) if write != "pickle" else pickle.loads(path.read_bytes())
    assert made.exists()  # the payload would have worked


def test_a_pickled_module_is_refused(tmp_path):
    torch.save(small(), tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"save its state_dict alone, best as \.safetensors$"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_torchscript_archive_is_refused_with_the_remedy(tmp_path):
    torch.jit.trace(small(), torch.ones(1, 3)).save(tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"\A.* is refused: .*save its state_dict alone, best as \.safetensors\Z"):
        read_weights(tmp_path / "w.pt")


def test_half_precision_weights_become_the_modules_own_precision(tmp_path):
    module = small()
    torch.save({name: tensor.half() for name, tensor in module.state_dict().items()}, tmp_path / "w.pt")
    copy = small()
    load_weights(copy, read_weights(tmp_path / "w.pt"), "w.pt")
    for name, tensor in copy.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, module.state_dict()[name].half().float())


def test_weights_that_do_not_fit_are_listed_in_a_table():
    weights = small().state_dict()
    weights["0.weight"] = torch.ones(5, 7)
    weights["2.bias"] = weights.pop("1.bias")
    module = small()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(ValueError, match="does not fit") as raised:
        load_weights(module, weights, "w.pt")
    assert str(raised.value).splitlines() == [
        "w.pt does not fit the model (2 of 4 weights do):",
        "  reshaped    0.weight: model (2, 3), file (5, 7)",
        "  missing     1.bias",
        "  unexpected  2.bias",
    ]
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("extra", [0, 1, 5])
def test_a_long_table_is_shortened_kind_by_kind(extra):
    module = nn.ModuleDict({f"m{number}": nn.Linear(1, 1, bias=False) for number in range(SHOWN + extra)})
    other = {f"x{number}.weight": torch.ones(1, 1) for number in range(SHOWN + extra)}
    with pytest.raises(ValueError, match="does not fit") as raised:
        load_weights(module, other, "w.pt")
    more = [[f"  ... and {extra} more {kind}"] if extra else [] for kind in ("missing", "unexpected")]
    assert str(raised.value).splitlines()[1:] == [
        *(f"  missing     m{number}.weight" for number in range(SHOWN)),
        *more[0],
        *(f"  unexpected  x{number}.weight" for number in range(SHOWN)),
        *more[1],
    ]


@pytest.mark.parametrize(
    "header",
    [
        b'{"__metadata__":' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
        b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"a":{"dtype":"F32","shape":[' + b"9" * 500 + b'],"data_offsets":[0,4]}}',
    ],
    ids=["metadata", "arrays", "digits"],
)
def test_a_header_beyond_the_bounds_is_refused_in_a_line(tmp_path, header):
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ValueError, match=r"cannot read weights from .*w\.safetensors") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(ValueError, match="header too large"):
        read_weights(path)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.int64])
def test_only_floating_weights_of_16_bits_or_more_load(dtype):
    module, before = small(), small()
    before.load_state_dict(module.state_dict())
    weights = module.state_dict() | {"0.weight": torch.ones(2, 3).to(dtype), "0.bias": torch.ones(2).to(dtype)}
    words = (
        rf"\Aw.pt is refused: it holds 0.weight in {str(dtype)[6:]} and 1 more; save .* float32, float16 or bfloat16\Z"
    )
    with pytest.raises(ValueError, match=words):
        load_weights(module, weights, "w.pt")
    torch.testing.assert_close(module.state_dict(), before.state_dict())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_refused(dtype, value):
    weights = small().state_dict()
    weights["1.bias"] = torch.tensor([0.0, value], dtype=dtype)
    with pytest.raises(ValueError, match=r"\Aw.pt is refused: NaN or infinity in 1.bias; .* earlier checkpoint"):
        load_weights(small(), weights, "w.pt")


def test_a_float64_weight_beyond_float32_is_refused():
    weights = small().state_dict()
    weights["1.bias"] = torch.tensor([0.0, 1e300], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"NaN or infinity in 1\.bias"):
        load_weights(small(), weights, "w.pt")


def test_integers_stay_integers_and_booleans_are_refused():
    module, weights = nn.BatchNorm1d(2), nn.BatchNorm1d(2).state_dict()
    load_weights(module, weights | {"num_batches_tracked": torch.tensor(7)}, "w.pt")
    assert module.num_batches_tracked == 7
    with pytest.raises(ValueError, match="num_batches_tracked in bool"):
        load_weights(module, weights | {"num_batches_tracked": torch.tensor(True)}, "w.pt")


class Scaled(nn.Module):
    """A module with CLIP's logit_scale, in the shape that is asked for."""

    def __init__(self, shape=()):
        super().__init__()
        self.logit_scale = nn.Parameter(torch.full(shape, 2.0))


@pytest.mark.parametrize("shapes", [((), (1,)), ((1,), ())])
def test_a_scale_of_either_shape_loads(shapes):
    own, stored = shapes
    module = Scaled(own)
    load_weights(module, {"logit_scale": torch.full(stored, 4.5)}, "w.pt")
    assert module.logit_scale.shape == own
    assert module.logit_scale.item() == 4.5
    with pytest.raises(ValueError, match="reshaped    logit_scale"):
        load_weights(module, {"logit_scale": torch.ones(2)}, "w.pt")


@pytest.mark.parametrize("stored", [100.0, -200.0, math.inf, -math.inf, math.nan])
def test_a_scale_that_is_not_positive_and_finite_is_refused(stored):
    with pytest.raises(ValueError, match=r"\Aw.pt is refused: .*logit_scale"):
        load_weights(Scaled(), {"logit_scale": torch.tensor(stored)}, "w.pt")


def test_constants_that_openai_stores_are_skipped():
    constants = {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}
    weights = Scaled().state_dict() | {name: torch.tensor(value) for name, value in constants.items()}
    weights |= {"attn_mask": torch.full((3, 3), -math.inf), "text.attn_mask": torch.zeros(3, 3)}
    load_weights(Scaled(), weights, "w.pt")
    with pytest.raises(ValueError, match="unexpected  attn_masks"):
        load_weights(Scaled(), weights | {"attn_masks": torch.zeros(2)}, "w.pt")


class Mixed(nn.Module):
    """Weights and counters of many types, one of them 0-d and one not contiguous."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.5, dtype=torch.bfloat16))
        self.matrix = nn.Parameter(torch.arange(6.0).view(2, 3).T)
        self.gain = nn.Parameter(torch.tensor([0.5, -0.0], dtype=torch.float16))
        self.register_buffer("steps", torch.tensor(3))
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)


def test_it_is_the_hash_of_names_and_bytes_in_the_order_of_the_names():
    expected = hashlib.sha256()
    expected.update(b"gain" + bytes.fromhex("00380080"))
    expected.update(b"mask" + b"\x01\x00")
    expected.update(b"matrix" + torch.tensor([0.0, 3, 1, 4, 2, 5]).numpy().tobytes())
    expected.update(b"scale" + bytes.fromhex("2040"))
    expected.update(b"steps" + (3).to_bytes(8, "little"))
    assert weights_sha256(Mixed()) == expected.hexdigest()


def test_a_copy_has_the_same_name(make_clip):
    model = make_clip(1)
    assert weights_sha256(model) == weights_sha256(copy.deepcopy(model)) == weights_sha256(make_clip(1))
    assert weights_sha256(model) != weights_sha256(make_clip(2))
    assert weights_sha256(model.train()) == weights_sha256(model.eval().requires_grad_(False))


@pytest.mark.parametrize("name", ["scale", "matrix", "gain", "steps", "mask"])
def test_one_bit_changes_it(name):
    module = Mixed()
    before = weights_sha256(module)
    tensor = module.state_dict()[name]
    flipped = tensor.clone().contiguous()
    flipped.view(-1).view(torch.uint8)[-1] ^= 1
    tensor.copy_(flipped)
    assert weights_sha256(module) != before


def test_what_is_not_saved_does_not_change_it():
    module = Mixed()
    before = weights_sha256(module)
    module.scratch += 1
    assert weights_sha256(module) == before
