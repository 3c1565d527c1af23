"""What the server of a line answers."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from codegraph_jax.core.names import shown
from codegraph_jax.line.part import Alarm, Part


class RegionOut(BaseModel):
    """One flagged region, as in regions.json; pixels of the upright picture."""

    region: int = Field(description="number, from 1; that of the greatest peak first")
    box: list[int] = Field(description="left, top, right, bottom; right and bottom are exclusive")
    polygon: list[list[list[float]]] = Field(description="outer edges: rings of [x, y]")
    area: int = Field(description="pixels")
    share: float = Field(description="of the picture's pixels")
    peak: float = Field(description="greatest score in it")
    mean: float = Field(description="mean score in it")
    p_value: float = Field(description="how often a normal part has such a peak anywhere")
    community: int | None = Field(description="number of the bank's pattern that most of it shows")


class AlarmOut(BaseModel):
    """Something that a person should look at."""

    id: int
    part: int = Field(description="the part that raised it")
    raised: str = Field(description="ISO 8601, UTC")
    kind: Literal["drift", "recurrence", "product"]
    reason: str = Field(description="why nothing needs to be done, in a person's words; empty: nobody has said so")
    subject: str
    message: str
    parts: list[int] = Field(description="the parts that show it")
    sheet: str | None = Field(description="where its contact sheet is")


class VerdictOut(BaseModel):
    """What a controller needs of a part."""

    model_config = ConfigDict(extra="forbid")

    id: int
    key: str = Field(description="what makes it one part: sent again, it is the same")
    name: str
    status: Literal["judged", "failed"]
    reason: str = Field(description="why it failed")
    verdict: Literal["OK", "NOK"] = Field(description="NOK: it is flagged, or could not be judged")
    score_raw: float | None


class PartOut(BaseModel):
    """One part and its verdict; fields of the same name as in scores.json mean the same."""

    id: int
    key: str = Field(description="what makes it one part: sent again, it is the same")
    name: str
    verdict: Literal["OK", "NOK"] = Field(description="NOK: it is flagged, or could not be judged")
    path: str = Field(description="file of its picture, on the server")
    received: str = Field(description="ISO 8601, UTC")
    judged: str = Field(description="ISO 8601, UTC")
    status: Literal["judged", "failed"]
    reason: str = Field(description="why it failed")
    said: Literal["flagged", "look", "passed", "failed"] = Field(
        description="what people read; look: it passes, and fewer than 1 in 20 good parts score as high"
    )
    answer: Literal["", "good", "defective"] = Field(description="what a person says of it")
    bank: str = Field(description="which bank has judged it")
    score_raw: float | None
    p_value: float | None = Field(description="how often a normal part scores so high")
    threshold: float | None = Field(description="scores from it on are flagged; none: nothing is flagged")
    flagged: bool | None
    width: int | None
    height: int | None
    peak: list[float] = Field(description="where it scores highest, as shares of width and height")
    shows: list[str] = Field(description="what it shows of what the bank knows")
    regions: list[RegionOut]
    seconds: float | None = Field(description="that judging took")
    alarms: list[AlarmOut]


class ScoreOut(BaseModel):
    """A point of a chart."""

    id: int
    score_raw: float | None
    threshold: float | None
    flagged: bool | None


class Problem(BaseModel):
    """Why a request came to nothing."""

    detail: str


class Summary(BaseModel):
    """How the line stands."""

    judged: int
    flagged: int
    failed: int
    waiting: int = Field(description="pictures that have come and are not judged yet")
    alarms: int = Field(description="number of the last alarm")
    last: int = Field(description="number of the last part")


def alarm_out(alarm: Alarm) -> AlarmOut:
    """An alarm as the server tells it."""
    sheet = f"/alarms/{alarm.id}/sheet" if alarm.kind == "recurrence" else None
    return AlarmOut.model_validate(
        {name: getattr(alarm, name) for name in ("id", "part", "raised", "kind", "reason", "subject", "message")}
        | {"parts": list(alarm.parts), "sheet": sheet}
    )


def part_out(part: Part) -> PartOut:
    """A part as the server tells it."""
    names = (
        "id", "key", "name", "path", "received", "judged", "status", "reason", "bank", "p_value", "threshold",
        "flagged", "width", "height", "seconds", "answer",
    )  # fmt: skip
    return PartOut.model_validate(
        {name: getattr(part, name) for name in names}
        | {
            "verdict": _verdict(part),
            "said": part.verdict,
            # names of files need not be Unicode
            "key": shown(part.key),
            "name": shown(part.name),
            "path": shown(part.path),
            "score_raw": part.score,
            "peak": list(part.peak),
            "shows": list(part.shows),
            "regions": list(part.regions),
            "alarms": [alarm_out(alarm) for alarm in part.alarms],
        }
    )


def verdict_out(part: Part) -> VerdictOut:
    """The verdict alone."""
    return VerdictOut(
        id=part.id,
        key=shown(part.key),
        name=shown(part.name),
        status="judged" if part.status == "judged" else "failed",
        reason=part.reason,
        verdict=_verdict(part),
        score_raw=part.score,
    )


def _verdict(part: Part) -> Literal["OK", "NOK"]:
    return "OK" if part.status == "judged" and part.flagged is False else "NOK"
