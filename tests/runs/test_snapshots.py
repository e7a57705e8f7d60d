"""Probes go to disk and come back, and what is torn or foreign is counted."""

import json

import numpy as np
import pytest

from workbench.events import RunFinished
from workbench.runs.log import EventLog
from workbench.runs.snapshots import Probe, ProbeOutputs, read_probe_history, write_probe, write_snapshot


@pytest.fixture
def ended(run, started):
    log = EventLog(run.events_file)
    log.append(started())
    log.append(RunFinished(run=run.id, step=100, state="finished", elapsed_s=1.0))
    return run


def said(seed: int, num_pairs: int = 4) -> ProbeOutputs:
    image_PD, text_PD = np.random.default_rng(seed).normal(size=(2, num_pairs, 8)).astype(np.float16)
    return ProbeOutputs(image_PD, text_PD, 10.0 + seed)


def test_what_is_written_is_read_bit_by_bit(ended) -> None:
    captions = ("a", "[/b]", "\N{FOX FACE}", "")
    written = {step: Probe(step, captions, said(step), said(0) if step > 1 else None) for step in (100, 1, 50)}
    for probe in written.values():
        write_probe(ended, probe)
    found = read_probe_history(ended)
    assert [probe.step for probe in found.probes] == [1, 50, 100]
    for probe in found.probes:
        assert probe.captions == captions
        assert (probe.teacher is None) == (probe.step == 1)
        np.testing.assert_array_equal(probe.student.text_PD, written[probe.step].student.text_PD)
        assert probe.student.scale == 10.0 + probe.step


def test_torn_and_foreign_files_are_counted(ended) -> None:
    path = write_probe(ended, Probe(10, ("a",) * 4, said(1)))
    path.write_bytes(path.read_bytes()[:-7])
    arrays = {"student_image": said(1).image_PD, "student_text": said(1).text_PD}
    three = {"captions": json.dumps(["a"] * 3), "scales": json.dumps({"student": 1.0})}
    write_snapshot(ended, "probe", 20, arrays, three)
    assert read_probe_history(ended).num_skipped == 2
    assert read_probe_history(ended).probes == []


def test_embeddings_that_are_not_finite_are_refused(ended) -> None:
    bad = said(1)
    bad.image_PD[0, 0] = np.nan
    with pytest.raises(ValueError, match="non-finite"):
        write_probe(ended, Probe(10, ("a",) * 4, bad))
