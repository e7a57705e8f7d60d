"""TensorBoard: an event file of scalars and hyperparameters, written without TensorFlow or torch."""

import os
import shlex
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from workbench.adapters.sink import Sink, flattened, settings
from workbench.process import this_host
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import TAKES_COMMANDS, State
from workbench.runs.log import first_events


class TensorBoardSink(Sink):
    """Writes ``folder/tensorboard/<id>/``. The new file tells TensorBoard to drop an earlier export."""

    tool = "tensorboard"

    def __init__(self, run: RunDirectory, folder: Path) -> None:
        super().__init__(run, folder)
        first = first_events(run.events_file)
        started_s = first[0].time_s if first else time.time()
        (self.folder / run.id).mkdir(exist_ok=True)
        # TensorBoard reads the files of a folder in the order of their names.
        name = f"events.out.tfevents.{time.time():017.6f}.{this_host()}.{os.getpid()}"
        # Not TensorBoard's EventFileWriter: its thread reports a full disk late, and with a traceback.
        self._records = RecordWriter((self.folder / run.id / name).open("wb"))
        self._add(Event(file_version="brain.Event:2"), started_s)
        self._add(Event(session_log=SessionLog(status=SessionLog.START), step=0), started_s)
        chosen = hparams_pb(flattened(settings(run)), trial_id=run.id, start_time_secs=started_s)
        self._add(Event(summary=chosen), started_s)
        self.flush()

    @property
    def next(self) -> str:
        return f"see it with: tensorboard --logdir {shlex.quote(str(self.folder))}"

    def write(self, step: int, time_s: float, values: Mapping[str, float]) -> None:
        entries = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._add(Event(step=step, summary=Summary(value=entries)), time_s)

    def flush(self) -> None:
        self._records.flush()

    def close(self, state: State) -> None:
        if state not in TAKES_COMMANDS:
            status = api_pb2.STATUS_SUCCESS if state == "finished" else api_pb2.STATUS_FAILURE
            ending = HParamsPluginData(session_end_info=SessionEndInfo(status=status, end_time_secs=time.time()))
            value = Summary.Value(
                tag=metadata.SESSION_END_INFO_TAG,
                metadata=metadata.create_summary_metadata(ending),
                tensor=metadata.NULL_TENSOR,
            )
            self._add(Event(summary=Summary(value=[value])), time.time())
        self._records.close()

    def _add(self, event: Event, time_s: float) -> None:
        event.wall_time = time_s
        self._records.write(event.SerializeToString())
