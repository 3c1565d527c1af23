"""Scalars in the file format that TensorBoard reads, by tensorboardX."""

import time
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

VERSION = "brain.Event:2"
"""What TensorBoard looks for at the beginning of a file."""


class EventFile:
    """One event file, begun anew when it is opened.

    tensorboardX's own `SummaryWriter` names files by time and host, so that a run that goes on would leave several, and
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
