"""The event file, read record by record."""

import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from contrastive_jax.report.metrics_log import MetricsLog


def events(path):
    """The events of a TFRecord file: length, checksum, payload, checksum."""
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        found.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return found


def test_tensorboard_events_have_step_tag_and_value(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl", 0)
    log.add("train", 100, 300, {"loss": 1.5, "é": -2.0})
    version, event = events(tmp_path / "events.out.tfevents.0")  # on the disk before the file is closed
    log.close()
    assert version.file_version == "brain.Event:2" and version.wall_time > 0
    assert event.step == 300
    assert {value.tag: value.simple_value for value in event.summary.value} == {"train/loss": 1.5, "train/é": -2.0}


@pytest.mark.parametrize("kept", [1, 2])
def test_a_resumed_run_begins_its_events_with_the_kept_records(tmp_path, kept):
    first = MetricsLog(tmp_path / "metrics.jsonl", 0)
    for epoch in (1, 2):
        first.add("train", epoch, 3 * epoch, {"loss": float(epoch)})
    first.close()
    MetricsLog(tmp_path / "metrics.jsonl", kept).close()
    assert [event.step for event in events(tmp_path / "events.out.tfevents.0")][1:] == [3, 6][:kept]
