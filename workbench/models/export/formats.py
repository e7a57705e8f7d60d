"""Names of export formats, without importing torch."""

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
    """Check that a format exists and that its packages are installed, without importing them.

    Raises:
        ValueError: with the nearest name or the packages to install; or the format has no half precision.
    """
    if name not in FORMATS:
        raise unknown("format", name, FORMATS)
    for package in NEEDED.get(name, ()):
        spec = find_spec(package)
        if spec is None or spec.origin is None:  # a folder with the package's name has no origin
            raise ValueError(f"{name} needs {package}, which is not installed: pip install '{PROJECT}[{name}]'")
    if half and name == "onnx":
        raise ValueError("onnx is written in float32: drop --half, and let the runtime convert (or quantize) it")
