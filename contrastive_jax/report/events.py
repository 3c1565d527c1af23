"""Writes scalars for TensorBoard, with tensorboardX."""

import time
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

VERSION = "brain.Event:2"
"""Format version, with which TensorBoard expects a file to begin."""


class EventFile:
    """An event file, which is overwritten when it is opened.

    `SummaryWriter` of tensorboardX names files by time and host, so that a resumed run would have several files, and
    equal runs would differ.
    """

    def __init__(self, path: Path):
        """Opens the file and writes the version."""
        self._records = RecordWriter(str(path))
        self._write(Event(file_version=VERSION))

    def add(self, step: int, scalars: dict[str, float]) -> None:
        """Appends one event with all `scalars`."""
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._write(Event(step=step, summary=Summary(value=values)))

    def close(self) -> None:
        """Closes the file."""
        self._records.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        self._records.flush()
