"""Parts and alarms of a line, and the identity of photo files."""

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from jaxtyping import Float

from codegraph_jax.report.region_data import Region, region_fields
from codegraph_jax.scoring.photo_verdicts import CHECK_P_VALUE

if TYPE_CHECKING:
    # the app reads ledgers, and starts without JAX
    from codegraph_jax.bank.reference_bank import ReferenceBank
    from codegraph_jax.consistency.pattern import Pattern

HEAD, PIECE = 64, 2**20
"""Bytes at the beginning of a file, which may hold offsets to later data, and bytes that are read at once."""


@dataclass(frozen=True)
class Alarm:
    """An alarm for the operator.

    Attributes:
        kind: `drift`, `recurrence` or `product`.
        subject: the statistic that has changed, the recurring defect, or `product`.
        message: one sentence for the operator.
        parts: numbers of the parts concerned; the ledger adds the part that raised the alarm.
        id, part, raised_at: number, part and time of the alarm, set by the ledger.
        acknowledgement: the operator's reason for acknowledging it; empty if it is not acknowledged.
    """

    kind: str
    subject: str
    message: str
    parts: tuple[int, ...] = ()
    id: int = 0
    part: int = 0
    raised_at: str = ""
    acknowledgement: str = ""

    @property
    def sheet(self) -> str | None:
        """URL path of the contact sheet; None for alarms without one."""
        return f"/alarms/{self.id}/sheet" if self.kind == "recurrence" else None


@dataclass(frozen=True)
class Part:
    """One part and its verdict.

    Attributes:
        key: identifies the part: name, time, size and content of a file, or the key of a request.
        name: name of the part.
        path: file of the photo.
        received_at, inspected_at: times, ISO 8601 in UTC.
        status: `inspected` or `not_inspected`.
        failure: why the part could not be inspected.
        bank: digest of the bank that scored the part.
        score, p_value, threshold, flagged: as in scores.json; None if it was not inspected.
        width, height: size of the photo in pixels.
        peak_position: position of the greatest score, as shares of width and height.
        patterns: names of the bank's patterns found on the part; "like PHOTO" if one was learned from a single photo.
        regions: flagged regions, as in regions.json.
        statistics: values for the monitors.
        seconds: time that the inspection took.
        heatmap: PNG of the anomaly map with transparency.
        content: digest of the photo's bytes, see `content_of`; empty if it is not known.
        stamp: times, size and inode of the file, see `stamp_of`; empty for photos that were sent.
        answer: the operator's answer: `good`, `defective`, or empty.
        id: number of the row; 0 if not recorded yet.
        alarms: alarms that the part raised.
    """

    key: str
    name: str
    path: str
    received_at: str
    inspected_at: str
    status: str
    failure: str = ""
    bank: str = ""
    score: float | None = None
    p_value: float | None = None
    threshold: float | None = None
    flagged: bool | None = None
    width: int | None = None
    height: int | None = None
    peak_position: tuple[float, ...] = ()
    patterns: tuple[str, ...] = ()
    regions: tuple[Mapping[str, Any], ...] = ()
    statistics: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None
    heatmap: bytes | None = None
    content: str = ""
    stamp: str = ""
    answer: str = ""
    id: int = 0
    alarms: tuple[Alarm, ...] = ()

    @property
    def verdict(self) -> str:
        """The verdict for people: not_inspected, flagged, check or passed (`scoring.photo_verdicts`)."""
        if self.status == "not_inspected":
            return "not_inspected"
        if self.flagged:
            return "flagged"
        tolerated = self.score is not None and self.threshold is not None and self.score >= self.threshold
        unusual = self.p_value is not None and self.p_value < CHECK_P_VALUE
        return "check" if unusual and not tolerated else "passed"

    def not_inspected(self, reason: str) -> "Part":
        """The part with the reason why it could not be inspected."""
        return replace(self, inspected_at=utc_now(), status="not_inspected", failure=reason)

    @property
    def decision(self) -> str:
        """`OK` or `NOK`, for a controller."""
        return "OK" if self.status == "inspected" and self.flagged is False else "NOK"


def scored_part(
    part: Part,
    bank: "ReferenceBank",
    *,
    score: float,
    p_value: float,
    flagged: bool,
    size: tuple[int, int],
    scores: Float[np.ndarray, "h w"],
    patterns: Iterable["Pattern"],
    regions: Sequence[Region],
) -> Part:
    """A part with the results of its inspection.

    Args:
        part: the part before the inspection.
        bank: the bank that scored it.
        score: score of the photo.
        p_value: p-value of the score.
        flagged: whether the part is flagged.
        size: width and height of the photo in pixels.
        scores: patch scores of the photo.
        patterns: the bank's patterns found on the part.
        regions: flagged regions.
    """
    threshold = float(bank.calibration.threshold)
    row, column = np.unravel_index(int(scores.argmax()), scores.shape)
    return replace(
        part,
        status="inspected",
        bank=bank.digest,
        score=round(float(score), 6),
        p_value=float(f"{p_value:.4g}"),
        threshold=threshold if np.isfinite(threshold) else None,
        flagged=bool(flagged),
        width=size[0],
        height=size[1],
        peak_position=(round((column + 0.5) / scores.shape[1], 4), round((row + 0.5) / scores.shape[0], 4)),
        patterns=tuple(
            f"like {pattern.name}" if pattern.origin == "photo" else pattern.name or pattern.verdict
            for pattern in patterns
        ),
        regions=tuple(region_fields(number, region) for number, region in enumerate(regions, 1)),
    )


def blank_part(key: str, name: str, path: str) -> Part:
    """A part before it is scored, with the current time."""
    moment = utc_now()
    return Part(key=key, name=name, path=path, received_at=moment, inspected_at=moment, status="inspected")


def utc_now() -> str:
    """The current time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def file_key(name: str, status: os.stat_result, content: str) -> str:
    """The key of a file: name, modification time in nanoseconds, size in bytes, and content digest."""
    return f"{name}@{status.st_mtime_ns}+{status.st_size}+{content}"


def stamp_of(status: os.stat_result) -> str:
    """Times, size and inode of a file; unchanged unless the file was written.

    The modification time alone is not enough: some cameras have no clock, and some file systems store times in steps of
    two seconds.
    """
    return f"{status.st_mtime_ns} {status.st_ctime_ns} {status.st_size} {status.st_ino}"


def content_of_file(path: str | os.PathLike[str], max_bytes: int | None = None) -> str:
    """`content_of` a file; empty for pipes and devices, which may never end.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb", opener=_open_at_once) as stream:  # noqa: PTH123
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            return ""
        return content_of(stream, max_bytes)


def _open_at_once(path: str, flags: int) -> int:
    # without O_NONBLOCK, opening a pipe waits for a writer
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def content_of(stream: BinaryIO, max_bytes: int | None = None) -> str:
    """Length, digest of the beginning and digest of the rest of a stream, without zeros at the end.

    A preallocated file ends in zeros until it is complete, and some writers update the beginning last: see
    `is_continuation`.

    Args:
        stream: a stream at its beginning.
        max_bytes: greatest number of bytes to read; None: all.
    """
    head = stream.read(HEAD if max_bytes is None else min(HEAD, max_bytes))
    length, read, rest = len(head.rstrip(b"\0")), len(head), blake2b(digest_size=16)
    while piece := stream.read(PIECE if max_bytes is None else min(PIECE, max_bytes - read)):
        used = piece.rstrip(b"\0")
        if used:
            # the offset accounts for skipped pieces of zeros before this one
            rest.update(read.to_bytes(8, "little") + used)
            length = read + len(used)
        read += len(piece)
    return f"{length}:{blake2b(head[:length], digest_size=16).hexdigest()}:{rest.hexdigest()}"


def is_continuation(former: str, content: str, path: str | os.PathLike[str]) -> bool:
    """Whether a file has only grown: its former content, followed by more.

    Args:
        former: `content_of` the file before.
        content: `content_of` the file now.
        path: the file.

    Raises:
        OSError: the file cannot be read.
    """
    length, length_now = (int(text.partition(":")[0] or 0) for text in (former, content))
    if not former or length_now <= length:
        return False
    return content_of_file(path, length).rpartition(":")[2] == former.rpartition(":")[2]
