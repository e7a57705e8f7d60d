"""The offline run of Weights & Biases has the content of the log."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("wandb")

BLOCK_BYTES = 32768
FULL, LAST = 1, 4


def records(file: Path) -> Iterator[object]:
    """The protocol buffers of a transaction log: after 7 bytes, LevelDB's log format."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, part = file.read_bytes(), 7, b""
    while place < len(data):
        left = BLOCK_BYTES - place % BLOCK_BYTES
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        part += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (FULL, LAST):
            yield Record.FromString(part)
            part = b""


@pytest.fixture
def exported(run, say, monkeypatch):
    """Exports the run in a process of its own, as people do, and gives the records of the offline run."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)

    def export_again(*events):
        say(*events)
        command = [sys.executable, "-m", "workbench", "runs", "export", str(run.path), "--to", "wandb"]
        done = subprocess.run(command, cwd=run.path.parent.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        (folder,) = (run.path.parent / "wandb").glob("offline-run-*-one")
        assert done.stdout.endswith(f"upload it with: wandb sync {folder}\n")
        return list(records(folder / "run-one.wandb"))

    return export_again


def history(found) -> dict[int, dict[str, object]]:
    return {
        record.history.step.num: {item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for record in found
        if record.WhichOneof("record_type") == "history"
    }


def test_metrics_config_and_outcome_are_in_the_offline_run(exported, make) -> None:
    step = make.step_done(10, 3.0)
    found = exported(make.started(), step, make.eval_done(10, 0.5), make.finished(10, "diverged"))
    (moment,) = history(found).values()
    assert moment.items() >= {"train/loss": 3.0, "weighted/fd": 0.5, "validation/image_to_text_r1": 0.5}.items()
    (started,) = [record.run for record in found if record.WhichOneof("record_type") == "run"]
    config = {item.key: json.loads(item.value_json) for item in started.config.update}
    assert (started.run_id, started.display_name) == ("one", "one")
    assert (config["loss"], config["seed"]) == ({"fd": {"weight": 2.5}}, 3)
    assert [record.exit.exit_code for record in found if record.WhichOneof("record_type") == "exit"] == [1]


@pytest.mark.slow
def test_exporting_again_replaces_what_was_there(exported, make) -> None:
    exported(make.started(), make.step_done(10, 3.0), make.step_done(20, 9.0), make.step_done(30, 9.0))
    found = exported(make.resumed(10), make.step_done(20, 2.0), make.finished(20))
    losses = {step: moment["train/loss"] for step, moment in history(found).items()}
    assert losses == {10: 3.0, 20: 2.0}
