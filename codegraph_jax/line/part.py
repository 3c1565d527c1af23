"""Photos, parts and alarms of a line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from codegraph_jax.report.region_data import Region, region_fields
from codegraph_jax.report.texts import texts_of
from codegraph_jax.scoring.photo_verdicts import CHECK_P_VALUE

if TYPE_CHECKING:
    # the app reads ledgers, and starts without JAX
    from codegraph_jax.bank.inspection import Inspection
    from codegraph_jax.bank.reference_bank import ReferenceBank


@dataclass(frozen=True)
class Alarm:
    """An alarm for the operator.

    Attributes:
        kind: `drift`, `recurrence` or `product`.
        subject: the statistic that has changed, the recurring defect, or `product`.
        message: one sentence for the operator.
        parts: numbers of the parts concerned; the ledger adds `raised_by`.
        id, raised_by, raised_at: number of the alarm, number of the part that raised it, and time, set by the ledger.
        acknowledgement: the operator's reason for acknowledging it; empty if it is not acknowledged.
    """

    kind: str
    subject: str
    message: str
    parts: tuple[int, ...] = ()
    id: int = 0
    raised_by: int = 0
    raised_at: str = ""
    acknowledgement: str = ""

    @property
    def sheet(self) -> str | None:
        """URL path of the contact sheet; None for alarms without one."""
        return f"/alarms/{self.id}/sheet" if self.kind == "recurrence" else None


def operator_sentence(key: str, **values: object) -> str:
    """A sentence in English, the text `sentence_KEY` of texts.en.json; the page of the line translates it."""
    return texts_of("line", "en")[f"sentence_{key}"].format(**values)


def utc_now() -> str:
    """The current time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class ReceivedPhoto:
    """The photo of a part before its inspection.

    Attributes:
        key: identifies the part: name, time, size and content of a file, or the key of a request.
        name: name of the part.
        path: file of the photo.
        fingerprint: identifies the photo's bytes, see `file_identity.fingerprint_of`; empty if it is not known.
        stamp: times, size and inode of the file, see `file_identity.stamp_of`; empty for photos that were sent.
        received_at: time of arrival, ISO 8601 in UTC.
    """

    key: str
    name: str
    path: str
    fingerprint: str = ""
    stamp: str = ""
    received_at: str = field(default_factory=utc_now)

    @property
    def photo_id(self) -> str:
        """Identifies the photo, under any name if its fingerprint is known."""
        return self.fingerprint or self.key

    def not_inspected(self, reason: str) -> "Part":
        """The part of a photo that could not be inspected."""
        return Part(**vars(self), inspected_at=utc_now(), status="not_inspected", failure=reason)


@dataclass(frozen=True, kw_only=True)
class Part(ReceivedPhoto):
    """One part and its verdict.

    Attributes:
        inspected_at: time of the verdict, ISO 8601 in UTC.
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
        answer: the operator's answer: `good`, `defective`, or empty.
        id: number of the row; 0 if not recorded yet.
        alarms: alarms that the part raised.
    """

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
        # a score at the threshold passes if a person called the photo good, or its defect is short enough
        below_threshold = self.score is None or self.threshold is None or self.score < self.threshold
        high_score = self.p_value is not None and self.p_value < CHECK_P_VALUE
        return "check" if high_score and below_threshold else "passed"

    @property
    def decision(self) -> str:
        """`OK` or `NOK`, for a controller."""
        return "OK" if self.status == "inspected" and self.flagged is False else "NOK"


def scored_part(
    photo: ReceivedPhoto,
    bank: "ReferenceBank",
    inspection: "Inspection",
    image: int,
    size: tuple[int, int],
    regions: Sequence[Region],
) -> Part:
    """The part of a photo that was inspected.

    Args:
        photo: the photo.
        bank: the bank that scored it.
        inspection: the result of the bank.
        image: number of the photo in the inspection.
        size: width and height of the photo in pixels.
        regions: flagged regions.
    """
    scores = inspection.placement.rect(image).cut(inspection.patch_scores[image])
    threshold = float(bank.calibration.threshold)
    row, column = np.unravel_index(int(scores.argmax()), scores.shape)
    return Part(
        **vars(photo),
        inspected_at=utc_now(),
        status="inspected",
        bank=bank.digest,
        score=round(float(inspection.scores[image]), 6),
        p_value=float(f"{inspection.p_values[image]:.4g}"),
        threshold=threshold if np.isfinite(threshold) else None,
        flagged=bool(inspection.flagged[image]),
        width=size[0],
        height=size[1],
        peak_position=(round((column + 0.5) / scores.shape[1], 4), round((row + 0.5) / scores.shape[0], 4)),
        patterns=tuple(
            operator_sentence("like", name=pattern.name)
            if pattern.origin == "photo"
            else pattern.name or pattern.verdict
            for pattern in inspection.patterns_of(image)
        ),
        regions=tuple(region_fields(number, region) for number, region in enumerate(regions, 1)),
    )
