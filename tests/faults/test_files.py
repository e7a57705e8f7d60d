"""Files that are not what they are called."""

from pathlib import Path

import pytest

from workbench.models.weights import read_weights


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_an_empty_weights_file_is_called_empty(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    path.touch()
    with pytest.raises(ValueError, match=r"^cannot read weights from \S+: the file is empty; [^\n]*again$"):
        read_weights(path)
