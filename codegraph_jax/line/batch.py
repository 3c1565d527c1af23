"""Rows of a ledger for images that were inspected together."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.line.ledger import Part
from codegraph_jax.report.pictures import Picture
from codegraph_jax.report.records import Record
from codegraph_jax.report.region_data import Region, rows_of


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def file_key(name: str, time_ns: int) -> str:
    """The key of a file: its name, and the time of its last change in nanoseconds."""
    return f"{name}@{time_ns}"


def region_values(regions: Sequence[Region]) -> list[Mapping[str, Any]]:
    """Regions as regions.json has them, but for what the part says itself."""
    given = ("path", "category", "width", "height")
    return [{key: row[key] for key in row if key not in given} for row in rows_of("", "", (0, 0), regions)]


def peak_of(scores: Float[np.ndarray, "h w"]) -> tuple[float, float]:
    """Where a picture scores highest, as shares of its width and height."""
    row, column = np.unravel_index(int(scores.argmax()), scores.shape)
    return round((column + 0.5) / scores.shape[1], 4), round((row + 0.5) / scores.shape[0], 4)


def inspected_part(bank: ReferenceBank, record: Record, picture: Picture, name: str) -> Part:
    """The row of an image that the bank has judged; `name` is what it is called."""
    result, moment = record.outcome.result, now()
    content = result.placement.content(record.index)
    threshold = float(bank.calibration.threshold)
    seen = [s.pattern for s in result.consistency.sightings if record.index in s.images]
    return Part(
        key=_key_of(name, record.path),
        name=name,
        path=_place(record.path),
        received=moment,
        judged=moment,
        status="judged",
        bank=bank.name,
        score=round(record.score_raw, 6),
        p_value=float(f"{record.p_value:.4g}"),
        threshold=threshold if np.isfinite(threshold) else None,
        flagged=record.flagged,
        width=picture.image_width,
        height=picture.image_height,
        peak=peak_of(content.cut(result.patch_scores[record.index])),
        shows=tuple(pattern.name or pattern.verdict for pattern in seen),
        regions=tuple(region_values(picture.regions)),
        layer=picture.layer,
    )


def unreadable_part(path: str, name: str, reason: str) -> Part:
    """The row of an image that cannot be read."""
    moment = now()
    return Part(_key_of(name, path), name, _place(path), moment, moment, "failed", reason)


def _place(path: str) -> str:
    """Where a picture is, wherever the ledger is read from; the name of one that no file holds."""
    return os.path.abspath(path) if os.path.isfile(path) else path  # noqa: PTH100, PTH113


def _key_of(name: str, path: str) -> str:
    """Of an image that no file holds, or that has gone meanwhile, its name alone."""
    try:
        return file_key(name, Path(path).stat().st_mtime_ns)
    except (OSError, ValueError):
        return name
