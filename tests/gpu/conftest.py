"""A GPU for machines that have none: tensors that claim to be on ``cuda:0``, and refuse to meet those that do not.

Their values are held by tensors on the CPU, which do the arithmetic; so what it computes is known, and how fast or how
exactly a GPU would is not asked. What is asked is what otherwise only a GPU tells: that no operator combines tensors of
two devices, and that a step does not make Python wait for the device.
"""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

GPU = torch.device("cuda", 0)
COPIES = ("aten::_to_copy", "aten::copy_")
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
READING = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal")
AUTOCAST = torch.autocast
waits: list[str] = []


class PretendedTensor(torch.Tensor):
    """A tensor on the GPU that is not there. Autograd takes it for one of the meta device, Python for one of CUDA's."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "PretendedTensor":
        shell = torch.empty_strided(held.shape, held.stride(), dtype=held.dtype, device="meta")
        made: PretendedTensor = torch.Tensor._make_subclass(cls, shell, False)
        made.held = held
        return made

    device = property(lambda _: GPU)  # type: ignore[assignment]  # torch declares attributes
    is_cuda = property(lambda _: True)  # type: ignore[assignment]
    is_meta = property(lambda _: False)  # type: ignore[assignment]

    @property
    def data(self) -> torch.Tensor:
        return torch.Tensor.data.__get__(self)  # type: ignore[attr-defined]  # torch declares an attribute

    @data.setter
    def data(self, value: torch.Tensor) -> None:
        torch.Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        if is_there(value):  # as stacking does, whose parameters share the stacked tensor's memory from then on
            self.held = value.held

    @classmethod
    def __torch_dispatch__(cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatched(operator, args, kwargs or {})

    def record_stream(self, stream: "PretendedStream") -> None:
        """Nothing is freed early here."""

    def tolist(self) -> Any:
        note_wait("tolist")
        return self.held.detach().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        note_wait("numpy")
        return self.held.detach().numpy()

    def __repr__(self, **_: Any) -> str:
        return f"PretendedTensor({self.held!r})"


def dispatched(operator: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The operator on what the tensors hold, its results where it would have put them.

    Raises:
        RuntimeError: it would have met tensors of two devices.
    """
    name = operator.name().split(".")[0]
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
    there = [one for one in tensors if is_there(one)]
    elsewhere = [one for one in tensors if not is_there(one) and (one.ndim or not may_be_scalar(name, args, one))]
    if there and elsewhere and not may_meet(name, args):
        shapes = [[tuple(one.shape) for one in some] for some in (there, elsewhere)]
        raise RuntimeError(f"{name} of tensors on two devices: {shapes[0]} on cuda:0, {shapes[1]} on cpu")
    place = kwargs.get("device")
    # Autograd's own zeros are asked for on the device that it takes these tensors to be on.
    onto_gpu = bool(there) if place is None else torch.device(place).type in ("cuda", "meta")
    if name == "aten::copy_":
        onto_gpu = is_there(args[0])
    if (there or onto_gpu) and is_waited_for(name, args, kwargs, onto_gpu=onto_gpu):
        note_wait(name)
    args, kwargs = tree_map_only(PretendedTensor, lambda one: one.held, (args, kwargs))
    kwargs |= {} if place is None else {"device": torch.device("cpu")}
    kwargs |= {"pin_memory": False} if "pin_memory" in kwargs else {}
    stream = PretendedStream.current
    if name == "aten::copy_" and stream is not PretendedStream.default:
        stream.queue.append(lambda: operator(*args, **kwargs))
        return there[0]
    result = operator(*args, **kwargs)
    if not onto_gpu:
        return result
    known = {id(one.held): one for one in there}  # an operator in place returns its very argument

    def put_there(held: torch.Tensor) -> PretendedTensor:
        return known[id(held)] if id(held) in known else PretendedTensor(held)

    return tree_map_only(torch.Tensor, put_there, result)


class PretendedStream:
    """A stream next to the default one, whose copies happen as late as they may: when another stream waits for them.

    The default stream computes at once.
    """

    default: "PretendedStream"
    current: "PretendedStream"
    device = GPU

    def __init__(self, *_: Any) -> None:
        self.queue: list[Callable[[], object]] = []
        self.waited_for: list[PretendedEvent] = []

    def record_event(self) -> "PretendedEvent":
        return PretendedEvent(self, len(self.queue))

    def wait_event(self, event: "PretendedEvent") -> None:
        self.waited_for.append(event)
        done, event.stream.queue[: event.position] = event.stream.queue[: event.position], []
        for work in done:
            work()

    def wait_stream(self, stream: "PretendedStream") -> None:
        self.wait_event(stream.record_event())


@dataclass(frozen=True)
class PretendedEvent:
    stream: PretendedStream
    position: int  # in the stream's queue; exact as long as its events are waited for in order


PretendedStream.default = PretendedStream.current = PretendedStream()


@contextmanager
def pretended_stream(stream: PretendedStream) -> Iterator[None]:
    """torch.cuda.stream."""
    before, PretendedStream.current = PretendedStream.current, stream
    try:
        yield
    finally:
        PretendedStream.current = before


def is_there(tensor: Any) -> bool:
    return isinstance(tensor, PretendedTensor)


def may_be_scalar(name: str, args: Any, tensor: torch.Tensor) -> bool:
    """Whether CUDA takes a 0-d CPU tensor for a number: pointwise operators do; fused kernels, and lists, do not."""
    if name.startswith("aten::_fused_"):
        return False
    lists = [one for one in args if isinstance(one, list | tuple)]
    return not any(tensor is one for some in lists for one in some)


def may_meet(name: str, args: Any) -> bool:
    """Whether CUDA, too, allows the operator tensors of two devices: copies, and rows there by numbers from here."""
    if name in INDEXING:
        values = [one for one in args[2:3] if isinstance(one, torch.Tensor) and one.ndim]
        return is_there(args[0]) and all(map(is_there, values))
    return name in COPIES


def is_waited_for(name: str, args: Any, kwargs: dict[str, Any], *, onto_gpu: bool) -> bool:
    """Whether Python would wait for all queued work of the GPU."""
    if name in INDEXING:  # a mask's number of rows decides the shape; numbers from the CPU are copied first
        return any(one is not None and (one.dtype == torch.bool or not is_there(one)) for one in args[1])
    if name not in COPIES:
        return name in READING
    source, rest = args[name == "aten::copy_"], args[2:]
    if is_there(source) == onto_gpu:
        return False
    # CUDA first copies what is not pinned into a buffer of its own, for which Python waits whatever it asked for.
    is_pinned = not onto_gpu or hasattr(source, "is_pretended_pinned")
    return not (is_pinned and (kwargs.get("non_blocking") or any(rest)))


def pretended_pinned(tensor: torch.Tensor, *_: Any) -> torch.Tensor:
    """A copy that :func:`is_waited_for` takes for one in pinned memory."""
    if is_there(tensor):
        raise RuntimeError("cannot pin a tensor on cuda:0: only dense CPU tensors can be pinned")
    copy = tensor.clone()
    copy.is_pretended_pinned = True  # type: ignore[attr-defined]
    return copy


IN_HALF = {F.linear, F.conv2d, F.scaled_dot_product_attention, torch.matmul, torch.bmm, torch.Tensor.matmul}
IN_HALF |= {torch.Tensor.__matmul__, torch.Tensor.__rmatmul__}
IN_FLOAT32 = {torch.layer_norm, torch.softmax, torch.Tensor.softmax}


class PretendedAutocast(TorchFunctionMode):
    """CUDA's autocast to half precision. PyTorch's own takes the pretended tensors for ones of the meta device."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        dtype = self.dtype if function in IN_HALF else torch.float32 if function in IN_FLOAT32 else None
        if dtype is None:
            return function(*args, **kwargs)

        def cast(one: torch.Tensor) -> torch.Tensor:
            return one.to(dtype) if one.is_floating_point() else one

        args, kwargs = tree_map_only(torch.Tensor, cast, (args, kwargs))
        return function(*args, **kwargs)


def pretended_autocast(device_type: str, dtype: torch.dtype | None = None, enabled: bool = True, **rest: Any) -> Any:
    if device_type != "cuda":
        return AUTOCAST(device_type, dtype=dtype, enabled=enabled, **rest)
    return PretendedAutocast(dtype or torch.float16) if enabled else nullcontext()


def note_wait(name: str) -> None:
    """Remember who waited, with the innermost line of the workbench."""
    lines = [f"{one.filename}:{one.lineno}" for one in traceback.extract_stack() if "/workbench/" in one.filename]
    waits.append(f"{name}, {lines[-1] if lines else 'a test'}")


class Pretending(TorchDispatchMode):
    """Makes tensors on the GPU that is not there."""

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatched(operator, args, kwargs or {})


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[torch.device]:
    """``cuda:0``, for as long as the test lasts."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU, on which the other tests run")
    answers: dict[str, Any] = {
        "_lazy_init": None,
        "is_available": True,
        "is_initialized": True,
        "device_count": 1,
        "current_device": 0,
        "get_device_name": "a GPU that is not there",
        "is_bf16_supported": True,
        "get_device_capability": (9, 0),
        "synchronize": None,
        "max_memory_allocated": 0,
        "memory_allocated": 0,
        "memory_reserved": 0,
        "reset_peak_memory_stats": None,
        "mem_get_info": (2**33, 2**34),
        "get_rng_state": torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": None,
        "manual_seed": None,
        "manual_seed_all": None,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    monkeypatch.setattr(torch.cuda, "Stream", PretendedStream)
    monkeypatch.setattr(torch.cuda, "stream", pretended_stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: PretendedStream.current)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pretended_pinned)
    monkeypatch.setattr(torch, "autocast", pretended_autocast)
    for name in ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic"):
        monkeypatch.setattr(F, name, lambda *_: False)  # functions written in Python show the mode what they call
    # As PyTorch starts. What runs change process-wide ends with the test.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    # Its teacher embeddings may differ in their last bits: keep them out of the caches of other tests.
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    torch._C._ensureCUDADeviceGuardSet()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="cuda") makes one here, then moves it
    try:
        with Pretending():
            yield GPU
    finally:
        torch.use_deterministic_algorithms(False)
        torch._C._set_only_lift_cpu_tensors(False)


@pytest.fixture
def waited(gpu: torch.device) -> list[str]:
    """What has made Python wait for that GPU so far; to be cleared."""
    del gpu
    waits.clear()
    return waits
