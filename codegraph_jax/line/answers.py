"""Response models of the line's HTTP server."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from codegraph_jax.core.names import printable
from codegraph_jax.line.part import Alarm, Part

KEY = "identifies the part: a photo that is sent again with this key is the same part"
FAILURE = "why the inspection failed"
DECISION = "NOK: the part is flagged, or could not be inspected"


class RegionOut(BaseModel):
    """One flagged region, as in regions.json, in pixels of the upright photo."""

    region: int = Field(description="number from 1, by descending peak")
    box: list[int] = Field(description="left, top, right, bottom; right and bottom are exclusive")
    polygon: list[list[list[float]]] = Field(description="outer edges: rings of [x, y]")
    area: int = Field(description="area in pixels")
    share: float = Field(description="area as a share of the photo")
    peak_score: float = Field(description="greatest score in the region")
    mean_score: float = Field(description="mean score in the region")
    p_value: float = Field(description="share of good parts with a peak this high anywhere")
    group: int | None = Field(description="number of the bank's pattern that covers most of the region")


class AlarmOut(BaseModel):
    """An alarm for the operator."""

    id: int
    part: int = Field(description="number of the part that raised the alarm")
    raised_at: str = Field(description="ISO 8601, UTC")
    kind: Literal["drift", "recurrence", "product"]
    acknowledgement: str = Field(
        description="the operator's reason for acknowledging the alarm; empty if not acknowledged"
    )
    subject: str
    message: str
    parts: list[int] = Field(description="numbers of the parts concerned")
    sheet: str | None = Field(description="URL path of the contact sheet")


class DecisionOut(BaseModel):
    """The decision on a part, for a controller."""

    model_config = ConfigDict(extra="forbid")

    id: int
    key: str = Field(description=KEY)
    name: str
    status: Literal["inspected", "failed"]
    failure: str = Field(description=FAILURE)
    decision: Literal["OK", "NOK"] = Field(description=DECISION)
    score: float | None


class PartOut(BaseModel):
    """One part and its verdict; fields that scores.json also has mean the same."""

    id: int
    key: str = Field(description=KEY)
    name: str
    decision: Literal["OK", "NOK"] = Field(description=DECISION)
    path: str = Field(description="file of the photo on the server")
    received_at: str = Field(description="ISO 8601, UTC")
    inspected_at: str = Field(description="time of the verdict, ISO 8601, UTC")
    status: Literal["inspected", "failed"]
    failure: str = Field(description=FAILURE)
    verdict: Literal["flagged", "look", "passed", "failed"] = Field(
        description="the verdict shown to people; look: it passes, but fewer than 1 in 20 good parts score this high"
    )
    answer: Literal["", "good", "defective"] = Field(description="the operator's answer")
    bank: str = Field(description="name of the bank that scored the part")
    score: float | None
    p_value: float | None = Field(description="share of good parts that score this high")
    threshold: float | None = Field(description="the least score that is flagged; null: no part is flagged")
    flagged: bool | None
    width: int | None
    height: int | None
    peak_position: list[float] = Field(description="position of the greatest score, as shares of width and height")
    patterns: list[str] = Field(description="names of the bank's patterns found on the part")
    regions: list[RegionOut]
    seconds: float | None = Field(description="time that the inspection took")
    alarms: list[AlarmOut]


class ScoreOut(BaseModel):
    """A point of a chart."""

    id: int
    score: float | None
    threshold: float | None
    flagged: bool | None


class Problem(BaseModel):
    """The reason why a request failed."""

    detail: str


class Summary(BaseModel):
    """Counts of the line."""

    inspected: int
    flagged: int
    failed: int
    waiting: int = Field(description="photos that wait for inspection")
    alarms: int = Field(description="number of the last alarm")
    last: int = Field(description="number of the last part")


def alarm_out(alarm: Alarm) -> AlarmOut:
    """The response for an alarm."""
    sheet = f"/alarms/{alarm.id}/sheet" if alarm.kind == "recurrence" else None
    return AlarmOut.model_validate(
        {
            name: getattr(alarm, name)
            for name in ("id", "part", "raised_at", "kind", "acknowledgement", "subject", "message")
        }
        | {"parts": list(alarm.parts), "sheet": sheet}
    )


def part_out(part: Part) -> PartOut:
    """The response for a part."""
    names = (
        "id", "key", "name", "path", "received_at", "inspected_at", "status", "failure", "bank", "p_value", "threshold",
        "flagged", "width", "height", "seconds", "answer",
    )  # fmt: skip
    return PartOut.model_validate(
        {name: getattr(part, name) for name in names}
        | {
            "decision": _decision(part),
            "verdict": part.verdict,
            # file names need not be Unicode
            "key": printable(part.key),
            "name": printable(part.name),
            "path": printable(part.path),
            "score": part.score,
            "peak_position": list(part.peak_position),
            "patterns": list(part.patterns),
            "regions": list(part.regions),
            "alarms": [alarm_out(alarm) for alarm in part.alarms],
        }
    )


def decision_out(part: Part) -> DecisionOut:
    """The response for a controller."""
    return DecisionOut(
        id=part.id,
        key=printable(part.key),
        name=printable(part.name),
        status="inspected" if part.status == "inspected" else "failed",
        failure=part.failure,
        decision=_decision(part),
        score=part.score,
    )


def _decision(part: Part) -> Literal["OK", "NOK"]:
    return "OK" if part.status == "inspected" and part.flagged is False else "NOK"
