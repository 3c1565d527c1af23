"""What a line says of one part."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from jaxtyping import Float

from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.consistency.pattern import Pattern
from codegraph_jax.report.region_data import Region, rows_of


@dataclass(frozen=True)
class Alarm:
    """Something that a person should look at.

    Attributes:
        kind: `drift` or `recurrence`.
        subject: the statistic that has moved, or what recurs.
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
        key: what makes it one part: a file's name and time, or what a request has named.
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
    id: int = 0
    alarms: tuple[Alarm, ...] = ()


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


def file_key(name: str, time_ns: int) -> str:
    """The key of a file: its name, and the time of its last change in nanoseconds."""
    return f"{name}@{time_ns}"
