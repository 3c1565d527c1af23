"""Output during a run: metrics.jsonl (one object per line), TensorBoard events, and lines with the remaining time."""

import json
import time
from pathlib import Path
from typing import Any, TextIO

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from codegraph_jax.core.files import write_text

VERSION = "brain.Event:2"
"""Format version, with which TensorBoard expects a file to begin."""


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


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


class MetricsLog:
    """Writes metrics.jsonl of a workdir, and the same values for TensorBoard."""

    def __init__(self, path: Path | None, last_epoch: int):
        """Opens the file without lines of epochs after `last_epoch` and without an incomplete last line.

        Without a path nothing is written. With `last_epoch` 0 the run starts again, and all old lines are removed.
        """
        self._events: EventFile | None = None
        if path is None:
            return
        kept = [line for line in read_log(path) if line["epoch"] <= last_epoch] if last_epoch else []
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._stream: TextIO = path.open("a", encoding="utf-8")
        self._events = EventFile(path.with_name("events.out.tfevents.0"))
        for line in kept:
            self._show(line)

    def add(self, kind: str, epoch: int, step: int, values: dict[str, Any]) -> None:
        """Appends one line and flushes it."""
        if self._events is None:
            return
        rounded = {k: float(f"{v:.8g}") if isinstance(v, float) else v for k, v in values.items()}
        line = {"kind": kind, "epoch": epoch, "step": step, **rounded}
        self._stream.write(json.dumps(line) + "\n")
        self._stream.flush()
        self._show(line)

    def close(self) -> None:
        """Closes the files."""
        if self._events is not None:
            self._stream.close()
            self._events.close()

    def _show(self, line: dict[str, Any]) -> None:
        assert self._events is not None
        numbers = {f"{line['kind']}/{name}": value for name, value in line.items() if isinstance(value, float)}
        self._events.add(line["step"], numbers)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a metrics file; empty if there is no file."""
    lines: list[dict[str, Any]] = []
    if not path.exists():
        return lines
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


class Progress:
    """Prints about fifty lines during a run."""

    def __init__(self, epochs: int, first: int, shown: bool = True):
        """Starts the clock at epoch `first` of `epochs`; prints nothing unless `shown`."""
        self._epochs, self._first, self._shown = epochs, first, shown
        self._every = max(1, epochs // 50)
        self._started = time.monotonic()

    def show(self, epoch: int, values: dict[str, Any]) -> None:
        """Prints a line if this epoch has one, with `values` in order and an AUROC in percent."""
        if not self._shown or epoch % self._every and epoch != self._epochs and "auroc" not in values:
            return
        left = ""
        if epoch > self._first:
            spent = time.monotonic() - self._started
            left = f"  {clock(spent / (epoch - self._first) * (self._epochs - epoch))} left"
        shown = "  ".join(
            f"{name} {100 * value:.1f}" if name == "auroc" else f"{name} {value:.4g}"
            for name, value in values.items()
            if value is not None
        )
        print(f"epoch {epoch:>{len(str(self._epochs))}}/{self._epochs}  {shown}{left}", flush=True)
