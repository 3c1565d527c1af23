"""Output during a run: metrics.jsonl (one object per line), TensorBoard events, and lines with the remaining time."""

import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from codegraph_jax.core.files import write_text

VERSION = "brain.Event:2"
"""Format version, with which TensorBoard expects a file to begin."""


def hours_minutes_seconds(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    return str(timedelta(seconds=round(seconds)))


class MetricsLog:
    """Writes metrics.jsonl of a workdir, and the same values for TensorBoard.

    `SummaryWriter` of tensorboardX names files by time and host, so that a resumed run would have several files, and
    equal runs would differ. Here the file of events is written anew when a run resumes.
    """

    def __init__(self, path: Path | None, last_epoch: int):
        """Opens the file without lines of epochs after `last_epoch` and without an incomplete last line.

        Without a path nothing is written. With `last_epoch` 0 the run starts again, and all old lines are removed.
        """
        self._stream: TextIO | None = None
        if path is None:
            return
        kept = [line for line in read_log(path) if line["epoch"] <= last_epoch] if last_epoch else []
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._stream = path.open("a", encoding="utf-8")
        self._events = RecordWriter(str(path.with_name("events.out.tfevents.0")))
        self._write_event(Event(file_version=VERSION))
        for line in kept:
            self._add_event(line)

    def add(self, kind: str, epoch: int, step: int, values: dict[str, Any]) -> None:
        """Appends one line and flushes it."""
        if self._stream is None:
            return
        rounded = {k: float(f"{v:.8g}") if isinstance(v, float) else v for k, v in values.items()}
        line = {"kind": kind, "epoch": epoch, "step": step, **rounded}
        self._stream.write(json.dumps(line) + "\n")
        self._stream.flush()
        self._add_event(line)

    def close(self) -> None:
        """Closes the files."""
        if self._stream is not None:
            self._stream.close()
            self._events.close()

    def _add_event(self, line: dict[str, Any]) -> None:
        numbers = {f"{line['kind']}/{name}": value for name, value in line.items() if isinstance(value, float)}
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()]
        self._write_event(Event(step=line["step"], summary=Summary(value=values)))

    def _write_event(self, event: Event) -> None:
        event.wall_time = time.time()
        self._events.write(event.SerializeToString())
        self._events.flush()


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


class EpochPrinter:
    """Prints about fifty lines during a run."""

    def __init__(self, epochs: int, finished: int, progress: bool = True):
        """Starts the clock after `finished` of `epochs` epochs; prints nothing unless `progress`."""
        self._epochs, self._finished, self._progress = epochs, finished, progress
        self._every = max(1, epochs // 50)
        self._started = time.monotonic()

    def show(self, epoch: int, values: dict[str, Any]) -> None:
        """Prints a line if this epoch has one, with `values` in order and an AUROC in percent."""
        if not self._progress or epoch % self._every and epoch != self._epochs and "auroc" not in values:
            return
        left = ""
        if epoch > self._finished:
            spent = time.monotonic() - self._started
            left = f"  {hours_minutes_seconds(spent / (epoch - self._finished) * (self._epochs - epoch))} left"
        shown = "  ".join(
            f"{name} {100 * value:.1f}" if name == "auroc" else f"{name} {value:.4g}"
            for name, value in values.items()
            if value is not None
        )
        print(f"epoch {epoch:>{len(str(self._epochs))}}/{self._epochs}  {shown}{left}", flush=True)
