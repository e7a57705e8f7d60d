import pytest

from workbench.models.export.formats import FORMATS, NEEDED, check_format


@pytest.mark.parametrize(
    ("name", "half", "message"),
    [
        ("onyx", False, "unknown format 'onyx': did you mean 'onnx'?"),
        ("torchscript", False, "choose one of: native, onnx, open_clip"),
        ("onnx", True, "drop --half"),
    ],
)
def test_what_cannot_be_is_one_line(monkeypatch, name, half, message):
    monkeypatch.setitem(NEEDED, "onnx", ())
    with pytest.raises(ValueError, match=message):
        check_format(name, half=half)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(NEEDED, "onnx", ("no_such_package",))
    with pytest.raises(ValueError, match=r"no_such_package.*pip install 'clip-distillation-workbench\[onnx\]'\Z"):
        check_format("onnx")
    for name in FORMATS.keys() - NEEDED.keys():
        check_format(name, half=True)


def test_a_folder_of_a_packages_name_is_no_package(monkeypatch, tmp_path):
    (tmp_path / "onnx_of_mine").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(NEEDED, "onnx", ("onnx_of_mine",))
    with pytest.raises(ValueError, match="is not installed"):
        check_format("onnx")
