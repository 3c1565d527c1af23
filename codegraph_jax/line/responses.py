"""Response models of the line's HTTP server."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from codegraph_jax.core.names import printable
from codegraph_jax.line.targets import without_secrets

Printable = Annotated[str, BeforeValidator(printable)]
"""A file name, which need not be Unicode."""


class RegionOut(BaseModel):
    """One flagged region, as in regions.json, in pixels of the upright photo."""

    model_config = ConfigDict(extra="forbid")  # a field that is missing here is an error, and not left out

    region: int = Field(description="number from 1, by descending peak")
    box: list[int] = Field(description="left, top, right, bottom; right and bottom are exclusive")
    polygon: list[list[list[float]]] = Field(description="outer edges: rings of [x, y]")
    area: int = Field(description="area in pixels")
    share: float = Field(description="area as a share of the photo")
    region_length: float = Field(description="longer side of the smallest rotated rectangle around the region")
    region_width: float = Field(description="its shorter side")
    peak_score: float = Field(description="greatest score in the region")
    mean_score: float = Field(description="mean score in the region")
    p_value: float = Field(description="share of good parts with a peak this high anywhere")
    group: int | None = Field(description="number of the bank's pattern that covers most of the region")


class _Read(BaseModel):
    """A response that is read from the attributes of an object."""

    model_config = ConfigDict(from_attributes=True)


class AlarmOut(_Read):
    """An alarm for the operator."""

    id: int
    raised_by: int = Field(description="number of the part that raised the alarm")
    raised_at: str = Field(description="ISO 8601, UTC")
    kind: Literal["drift", "recurrence", "product"]
    acknowledgement: str = Field(
        description="the operator's reason for acknowledging the alarm; empty if not acknowledged"
    )
    subject: str
    message: str
    parts: list[int] = Field(description="numbers of the parts concerned")
    sheet: str | None = Field(description="URL path of the contact sheet")


class DecisionOut(_Read):
    """The decision on a part, for a controller."""

    model_config = ConfigDict(extra="forbid")  # a `PartOut` is no decision

    id: int
    key: Printable = Field(description="identifies the part: `request:` and the Idempotency-Key, or the path of a file")
    name: Printable
    failure: str = Field(description="why the part could not be inspected; empty if it was")
    decision: Literal["OK", "NOK"] = Field(description="NOK: the part is flagged, or could not be inspected")
    score: float | None


class PartOut(DecisionOut):
    """One part and its verdict; fields that scores.json also has mean the same."""

    model_config = ConfigDict(extra="ignore")

    path: Printable = Field(description="file of the photo on the server")
    received_at: str = Field(description="ISO 8601, UTC")
    inspected_at: str = Field(description="time of the verdict, ISO 8601, UTC")
    verdict: Literal["flagged", "check", "passed", "not_inspected"] = Field(
        description="the verdict shown to people; check: it passes, but fewer than 1 in 20 good parts score this high"
    )
    answer: Literal["", "good", "defective"] = Field(description="the operator's answer")
    bank: str = Field(description="digest of the bank that scored the part")
    p_value: float | None = Field(description="share of good parts that score this high")
    threshold: float | None = Field(description="the least score that is flagged; null: no part is flagged")
    width: int | None
    height: int | None
    peak_position: list[float] = Field(description="position of the greatest score, as shares of width and height")
    patterns: list[str] = Field(description="names of the bank's patterns found on the part")
    regions: list[RegionOut]
    seconds: float | None = Field(description="time that the inspection took")
    alarms: list[AlarmOut]


class Message(BaseModel):
    """A result that the line sends to its targets."""

    message_id: str = Field(description="identifies the message: one that is sent again has the same text here")
    event: Literal["part", "answer", "acknowledgement"] = Field(
        description="part: a verdict; answer: the operator's answer to a part; acknowledgement: of an alarm"
    )
    replaces: int | None = Field(description="number of an earlier part whose verdict this one replaces")
    part: PartOut | None = Field(description="the part at the time of sending")
    alarm: AlarmOut | None = Field(description="the alarm that was acknowledged")


class ScoreOut(BaseModel):
    """A point of a chart."""

    id: int
    score: float | None
    threshold: float | None
    flagged: bool | None


class Problem(BaseModel):
    """The reason why a request failed."""

    detail: str


class UndeliveredOut(_Read):
    """Results that a target has not accepted."""

    address: Annotated[str, BeforeValidator(without_secrets)]
    waiting: int = Field(description="results that are sent as soon as possible")
    set_aside: int = Field(description="results that are sent again only on request")
    parts: list[int] = Field(description="numbers of the first parts whose results are set aside")
    error: str = Field(description="the last error; empty if nothing has failed")


class LineSummary(BaseModel):
    """Counts of the line."""

    inspected: int
    flagged: int
    not_inspected: int
    waiting: int = Field(description="photos that wait for inspection")
    last_alarm: int = Field(description="number of the last alarm")
    last_part: int = Field(description="number of the last part")
    undelivered: list[UndeliveredOut]
