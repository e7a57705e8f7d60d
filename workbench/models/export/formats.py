"""The formats by name."""

from importlib.util import find_spec

from workbench.adapters.sink import PROJECT
from workbench.errors import unknown

FORMATS = {
    "native": "a folder for workbench.load_student, any architecture",
    "open_clip": "a folder for open_clip alone, uniform architectures",
    "onnx": "a file for each tower, any architecture",
}
NEEDED = {"onnx": ("onnx", "onnxscript", "onnxruntime")}


def check_format(name: str, *, half: bool = False) -> None:
    """Whether a format is known and its packages are installed, without importing them.

    Raises:
        ValueError: it is not, with the nearest name or what to install; or it has no half precision.
    """
    if name not in FORMATS:
        raise unknown("format", name, FORMATS)
    for package in NEEDED.get(name, ()):
        spec = find_spec(package)
        if spec is None or spec.origin is None:  # a mere folder of the package's name has no origin
            raise ValueError(f"{name} needs {package}, which is not installed: pip install '{PROJECT}[{name}]'")
    if half and name == "onnx":
        raise ValueError("onnx is written in float32: drop --half, and let the runtime round (or quantize) it")
