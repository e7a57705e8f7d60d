"""Files as Hugging Face's `datasets` writes them, made with pyarrow alone.

``test_parquet.py`` reads one folder that `datasets` itself wrote; these have its layout.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

IMAGE_TYPE = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def table(columns: dict[str, list[Any]], classes: list[str] | None = None) -> pa.Table:
    """A table whose column ``image`` is the Hub's struct; ``label`` has the names ``classes``."""
    features = {name: {"_type": "Image" if name == "image" else "Value"} for name in columns}
    if classes is not None:
        features["label"] = {"_type": "ClassLabel", "names": classes}
    arrays = {
        name: pa.array(values, IMAGE_TYPE if isinstance(values[0], dict) else None) for name, values in columns.items()
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.table(arrays).replace_schema_metadata(metadata)


def images(encoded: list[bytes | None]) -> list[dict[str, Any]]:
    return [{"bytes": data, "path": f"{number}.jpg"} for number, data in enumerate(encoded)]


def write_parquet(path: Path, content: pa.Table, rows_per_group: int = 2) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(content, path, row_group_size=rows_per_group)
    return str(path)


def write_saved(folder: Path, *parts: pa.Table, rows_per_batch: int = 2) -> str:
    """``save_to_disk``: an Arrow stream a part, and a list of them."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"data-{number:05d}-of-{len(parts):05d}.arrow" for number in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        with pa.ipc.new_stream(str(folder / name), part.schema) as stream:
            stream.write_table(part, max_chunksize=rows_per_batch)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    return f"datasets:{folder}"
