"""What a line says of one part."""

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float

from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.consistency.pattern import Pattern
from codegraph_jax.report.region_data import Region, rows_of
from codegraph_jax.scoring.verdicts import LOOK_P_VALUE

HEAD, PIECE = 64, 2**20
"""Bytes of the beginning of a file, in which formats note where the rest is; bytes that are read at once."""


@dataclass(frozen=True)
class Alarm:
    """Something that a person should look at.

    Attributes:
        kind: `drift`, `recurrence` or `product`.
        subject: the statistic that has moved, what recurs, or `product`.
        message: one sentence for a person.
        parts: ids of the parts that show it; that of the part that raised it is added when it is recorded.
        id, part, raised: as the ledger has them; 0 and empty before.
        reason: why nothing need be done, in a person's words; empty where nobody has acknowledged it.
    """

    kind: str
    subject: str
    message: str
    parts: tuple[int, ...] = ()
    id: int = 0
    part: int = 0
    raised: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Part:
    """One part and its verdict.

    Attributes:
        key: what makes it one part: a file's name, time, size and content, or what a request has named.
        name: what people call it.
        path: file of its picture.
        received, judged: times, ISO 8601 in UTC.
        status: `judged` or `failed`.
        reason: why it failed.
        bank: which bank has judged it.
        score, p_value, threshold, flagged: as scores.json has them; None where it failed.
        width, height: of the picture in pixels.
        peak: where it scores highest, as shares of width and height.
        shows: what it shows of the patterns that the bank knows.
        regions: as regions.json has them.
        statistics: what the monitors look at.
        seconds: from the picture at hand to the verdict.
        layer: PNG of the anomaly map with transparency.
        content: digest of the picture's bytes, see `content_of`; empty where it is not known.
        look: time, size and number of the file as the system gave them; empty of pictures that were sent.
        answer: what a person says of it: `good`, `defective`, or empty.
        id: number of its row; 0 before it has one.
        alarms: those that it has raised.
    """

    key: str
    name: str
    path: str
    received: str
    judged: str
    status: str
    reason: str = ""
    bank: str = ""
    score: float | None = None
    p_value: float | None = None
    threshold: float | None = None
    flagged: bool | None = None
    width: int | None = None
    height: int | None = None
    peak: tuple[float, ...] = ()
    shows: tuple[str, ...] = ()
    regions: tuple[Mapping[str, Any], ...] = ()
    statistics: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None
    layer: bytes | None = None
    content: str = ""
    look: str = ""
    answer: str = ""
    id: int = 0
    alarms: tuple[Alarm, ...] = ()

    @property
    def verdict(self) -> str:
        """What a person reads: failed, flagged, look or passed (`scoring.verdicts`)."""
        if self.status == "failed":
            return "failed"
        if self.flagged:
            return "flagged"
        return "look" if self.p_value is not None and self.p_value < LOOK_P_VALUE else "passed"


def judged_part(
    part: Part,
    bank: ReferenceBank,
    verdict: tuple[float, float, bool],
    size: tuple[int, int],
    scores: Float[np.ndarray, "h w"],
    seen: Iterable[Pattern],
    regions: Sequence[Region],
) -> Part:
    """A part with what a bank says of it.

    Args:
        part: what is known without it.
        bank: that has judged it.
        verdict: score, p-value, and whether it is flagged.
        size: width and height of the picture in pixels.
        scores: of the picture's patches.
        seen: the bank's patterns that it shows.
        regions: that are flagged.
    """
    threshold = float(bank.calibration.threshold)
    score, p_value, flagged = verdict
    row, column = np.unravel_index(int(scores.argmax()), scores.shape)
    given = ("path", "category", "width", "height")
    rows = [{key: row[key] for key in row if key not in given} for row in rows_of("", "", (0, 0), regions)]
    return replace(
        part,
        status="judged",
        bank=bank.name,
        score=round(float(score), 6),
        p_value=float(f"{p_value:.4g}"),
        threshold=threshold if np.isfinite(threshold) else None,
        flagged=bool(flagged),
        width=size[0],
        height=size[1],
        peak=(round((column + 0.5) / scores.shape[1], 4), round((row + 0.5) / scores.shape[0], 4)),
        shows=tuple(pattern.name or pattern.verdict for pattern in seen),
        regions=tuple(rows),
    )


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def file_key(name: str, status: os.stat_result, content: str) -> str:
    """The key of a file: its name, the time of its last change in nanoseconds, its size in bytes, and its content."""
    return f"{name}@{status.st_mtime_ns}+{status.st_size}+{content}"


def look_of(status: os.stat_result) -> str:
    """How a file looks to the system: without a change of it nothing has been written to the file.

    The time of the last change alone does not tell: some cameras have no clock, and some file systems count in steps of
    two seconds.
    """
    return f"{status.st_mtime_ns} {status.st_ctime_ns} {status.st_size} {status.st_ino}"


def content_of_file(path: str | os.PathLike[str], most: int | None = None) -> str:
    """`content_of` a file; empty for pipes and devices, which may never end.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb", opener=_open_at_once) as stream:  # noqa: PTH123
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            return ""
        return content_of(stream, most)


def _open_at_once(path: str, flags: int) -> int:
    # opening a pipe waits for a writer otherwise
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def content_of(stream: BinaryIO, most: int | None = None) -> str:
    """Length, digest of the beginning and digest of the rest of the bytes of a stream, without the zeros at its end.

    Files whose room is reserved before they are written end in zeros until they are whole, and some writers return to
    the beginning when they have written the rest: see `goes_on`.

    Args:
        stream: from its beginning.
        most: bytes that are read; None: all.
    """
    head = stream.read(HEAD if most is None else min(HEAD, most))
    length, read, rest = len(head.rstrip(b"\0")), len(head), blake2b(digest_size=16)
    while piece := stream.read(PIECE if most is None else min(PIECE, most - read)):
        used = piece.rstrip(b"\0")
        if used:
            # pieces of zeros alone before this one count from here on
            rest.update(read.to_bytes(8, "little") + used)
            length = read + len(used)
        read += len(piece)
    return f"{length}:{blake2b(head[:length], digest_size=16).hexdigest()}:{rest.hexdigest()}"


def goes_on(former: str, content: str, path: str | os.PathLike[str]) -> bool:
    """Whether a file holds what it held before, and more behind it.

    Args:
        former: content that the file had.
        content: that it has now.
        path: the file.

    Raises:
        OSError: it cannot be read.
    """
    length, now_long = (int(text.partition(":")[0] or 0) for text in (former, content))
    if not former or now_long <= length:
        return False
    return content_of_file(path, length).rpartition(":")[2] == former.rpartition(":")[2]
