"""Weights have one name: it repeats for equal weights and changes with one bit."""

import copy
import hashlib

import pytest
import torch
from torch import nn

from workbench.models.fingerprint import weights_sha256


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
