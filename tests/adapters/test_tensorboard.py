"""The exported event files, read with TensorBoard's own reader."""

import math
import subprocess
import sys

import pytest

pytest.importorskip("tensorboard")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from workbench.adapters.export import export
from workbench.adapters.tensorboard import TensorBoardSink


def read(folder) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return events


def scalars(folder, name: str) -> list[tuple[int, float]]:
    return [(event.step, pytest.approx(event.value, nan_ok=True)) for event in read(folder).Scalars(name)]


@pytest.fixture
def exported(run, say):
    """Exports the run and gives the folder that TensorBoard reads."""

    def export_again(*events):
        say(*events)
        export(run, lambda: TensorBoardSink(run, run.path.parent))
        return run.path.parent / "tensorboard" / "one"

    return export_again


def test_every_number_is_read_back_at_its_step_and_time(exported, make) -> None:
    first, second = make.step_done(10, 3.0), make.step_done(20, math.nan)
    folder = exported(make.started(), first, second, make.eval_done(20, 0.5, "test"), make.finished(20))
    assert scalars(folder, "train/loss") == [(10, 3.0), (20, math.nan)]
    assert scalars(folder, "weighted/fd") == [(10, 0.5), (20, 0.5)]
    assert scalars(folder, "test/image_to_text_r1") == [(20, 0.5)]
    assert [event.wall_time for event in read(folder).Scalars("train/loss")] == [first.time_s, second.time_s]


@pytest.mark.parametrize(
    ("state", "status"), [("finished", api_pb2.STATUS_SUCCESS), ("diverged", api_pb2.STATUS_FAILURE)]
)
def test_the_settings_and_the_outcome_are_hyperparameters(exported, make, state: str, status: int) -> None:
    folder = exported(make.started(), make.step_done(10, 3.0), make.finished(10, state))
    content = read(folder).PluginTagToContent("hparams")
    plugin = {tag: HParamsPluginData.FromString(data) for tag, data in content.items()}
    chosen = plugin["_hparams_/session_start_info"].session_start_info.hparams
    assert chosen["loss.fd.weight"].number_value == 2.5
    assert chosen["optimizer.betas"].string_value == "[0.9, 0.98]"
    assert plugin["_hparams_/session_end_info"].session_end_info.status == status


def test_exporting_again_replaces_what_was_there(exported, make) -> None:
    folder = exported(make.started(), make.step_done(10, 3.0), make.step_done(20, 9.0), make.step_done(30, 9.0))
    exported(make.resumed(10), make.step_done(20, 2.0), make.finished(20))
    assert len(list(folder.iterdir())) == 2
    assert scalars(folder, "train/loss") == [(10, 3.0), (20, 2.0)]


def test_what_is_flushed_can_be_read_while_the_run_goes_on(run, say, make) -> None:
    say(make.started())
    sink = TensorBoardSink(run, run.path.parent)
    sink.write(10, 1.0, {"train/loss": 3.0})
    sink.flush()
    assert scalars(run.path.parent / "tensorboard" / "one", "train/loss") == [(10, 3.0)]
    sink.close("running")


def test_a_process_that_exports_loads_no_torch(run, say, make) -> None:
    say(make.started(), make.step_done(10, 3.0))
    program = f"""
import sys
from workbench.cli.app import main
sys.argv = ["workbench", "runs", "export", {str(run.path)!r}, "--to", "tensorboard"]
try:
    main()
finally:
    assert "tensorboard" in sys.modules and "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
