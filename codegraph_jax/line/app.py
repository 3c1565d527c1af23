"""The HTTP server of a line: takes photos, returns verdicts, and serves a status page."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from codegraph_jax.data.images import UnreadableImageError
from codegraph_jax.line.answers import (
    AlarmOut,
    PartOut,
    Problem,
    ScoreOut,
    Summary,
    VerdictOut,
    alarm_out,
    part_out,
    verdict_out,
)  # fmt: skip
from codegraph_jax.line.guard import HEADERS, LOOPBACK, refusal
from codegraph_jax.line.inspector import Inspector, Unanswerable
from codegraph_jax.line.ledger import Ledger, LedgerUnavailable
from codegraph_jax.line.part import Part
from codegraph_jax.line.reception import HOW, Reception, Refused
from codegraph_jax.line.settings import WebSettings

LAST_NUMBER = 2**63 - 1
"""Largest integer in SQLite."""
PICTURE_BODY = {
    "required": True,
    "content": {
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"picture": {"type": "string", "format": "binary"}},
                "required": ["picture"],
            }
        },
    },
}
"""Body of `POST /parts` in OpenAPI."""
Number = Annotated[int, Query(ge=0, le=LAST_NUMBER)]
Fields = Annotated[
    Literal["all", "verdict"], Query(description="`verdict` leaves out regions, map and alarms, for a controller")
]

logger = logging.getLogger(__name__)


class _Counts:
    """Prometheus counters from the ledger, so that they continue after a restart."""

    def __init__(self, ledger: Ledger):
        self.ledger = ledger

    def collect(self) -> Any:
        with suppress(LedgerUnavailable):
            counts = self.ledger.count()
            parts = CounterMetricFamily("codegraph_parts", "Parts by verdict.", labels=["verdict"])
            parts.add_metric(["passed"], counts["judged"] - counts["flagged"])
            parts.add_metric(["flagged"], counts["flagged"])
            parts.add_metric(["failed"], counts["failed"])
            yield parts
            alarms = CounterMetricFamily("codegraph_alarms", "Alarms.")
            alarms.add_metric([], self.ledger.last_alarm())
            yield alarms


def create_app(inspector: Inspector, settings: WebSettings, token: str = "") -> FastAPI:
    """The application.

    Args:
        inspector: inspects the parts.
        settings: limits of the server.
        token: the token that requests must carry as `Authorization: Bearer TOKEN`; empty: none is needed.
    """
    line, ledger = Reception(inspector, settings), inspector.ledger
    registry = CollectorRegistry()
    registry.register(_Counts(ledger))
    seconds = Histogram(
        "codegraph_seconds", "Seconds from a photo to its verdict.", registry=registry,
        buckets=(0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
    )  # fmt: skip
    waiting = Gauge("codegraph_waiting", "Photos that wait for inspection.", registry=registry)
    waiting.set_function(lambda: line.waiting)
    threshold = Gauge("codegraph_threshold", "Least score that is flagged.", registry=registry)
    threshold.set(inspector.bank.calibration.threshold)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        line.close()

    app = FastAPI(
        title="Inspection of single parts",
        version="1",
        description="Each part is scored against a reference bank, which was made from a set of unlabelled photos.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        # redirects would lead to the address in the Host header
        redirect_slashes=False,
    )
    app.state.line = line

    @app.middleware("http")
    async def guard(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        response = refusal(request.scope, token, settings.host in LOOPBACK) or await go_on(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @app.exception_handler(Refused)
    async def say_no(request: Request, error: Refused) -> Response:
        return JSONResponse({"detail": error.reason}, error.status, headers=error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        logger.warning("%s: the client disconnected before its photo had arrived", request.scope["path"])
        return JSONResponse({"detail": "the photo did not arrive completely"}, 400)

    @app.exception_handler(LedgerUnavailable)
    async def not_now(request: Request, error: LedgerUnavailable) -> Response:
        return JSONResponse({"detail": str(error)}, 503, headers={"Retry-After": "2"})

    refusals: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem, "description": description}
        for status, description in {
            400: "the request is invalid",
            401: "the token is missing or wrong",
            503: "unavailable now: try again after the seconds in Retry-After",
        }.items()
    }
    missing: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "not found"}}

    @app.post(
        "/parts",
        response_model=PartOut | VerdictOut,
        responses=refusals
        | {
            408: {"model": Problem, "description": "the photo took too long to arrive"},
            413: {"model": Problem, "description": "the photo is too large"},
            415: {"model": Problem, "description": "the body is encoded, instead of the bytes of the image file"},
            422: {
                "model": PartOut | VerdictOut | Any,
                "description": "the photo cannot be read, and the part is recorded as failed; or the key was used for "
                "another photo",
            },
        },
        openapi_extra={"requestBody": PICTURE_BODY},
    )
    async def judge(
        request: Request,
        name: Annotated[str, Query(max_length=500, description="name of the part")] = "",
        fields: Fields = "all",
        idempotency_key: Annotated[
            str,
            Header(
                max_length=200,
                description="identifies the part: the same photo gets the same verdict again, another photo is refused",
            ),
        ] = "",
    ) -> Any:
        """Inspects a part. The body is the photo, or a form with the photo."""
        part = await line.judged(_unicode(idempotency_key), name, await line.read(request))
        if part.seconds is not None:
            seconds.observe(part.seconds)
        return _answer(part, fields)

    @app.get("/parts", response_model=list[PartOut | VerdictOut], responses=refusals)
    def parts(
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
        before: Number = 0,
        flagged: bool = False,
        fields: Fields = "all",
    ) -> list[PartOut | VerdictOut]:
        """The last parts, newest first."""
        return [_out(part, fields) for part in ledger.latest(limit, before, flagged)]

    @app.get("/scores", response_model=list[ScoreOut], responses=refusals)
    def scores(limit: Annotated[int, Query(ge=1, le=5000)] = 300) -> list[ScoreOut]:
        """The scores of the last parts, oldest first, for charts."""
        names = ("id", "score_raw", "threshold", "flagged")
        return [ScoreOut.model_validate(dict(zip(names, row))) for row in ledger.scores(limit)]

    @app.get("/parts.csv", responses=refusals | {200: {"content": {"text/csv": {}}}}, response_class=StreamingResponse)
    def table() -> Response:
        """All parts as CSV."""
        return StreamingResponse(ledger.csv(settings.csv), media_type="text/csv; charset=utf-8")

    @app.get("/parts/{part}", response_model=PartOut | VerdictOut, responses=refusals | missing)
    def one(part: int, fields: Fields = "all") -> PartOut | VerdictOut:
        """One part."""
        return _out(_part(ledger, part), fields)

    @app.get(
        "/parts/{part}/picture",
        responses=refusals | missing | {200: {"content": {"image/jpeg": {}}}},
        response_class=Response,
    )
    async def picture(part: int) -> Response:
        """The photo of a part, reduced in size."""
        found = await run_in_threadpool(_part, ledger, part)
        try:
            data = await line.preview(found)
        except UnreadableImageError:
            raise Refused(404, f"the photo of part {part} no longer exists or cannot be read") from None
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    @app.get(
        "/parts/{part}/layer",
        responses=refusals | missing | {200: {"content": {"image/png": {}}}},
        response_class=Response,
    )
    def layer(part: int) -> Response:
        """The anomaly map of a part, a small transparent PNG to lay over the photo."""
        found = _part(ledger, part)
        if found.layer is None:
            raise Refused(404, f"part {part} has no anomaly map")
        return Response(found.layer, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})

    conflict: dict[int | str, dict[str, Any]] = {409: {"model": Problem, "description": "the answer is not possible"}}

    @app.put("/parts/{part}/answer", response_model=PartOut, responses=refusals | missing | conflict)
    def answer(part: int, defective: bool) -> PartOut:
        """Sets the operator's answer. The bank stores it and applies it to parts that look alike."""
        return _answered(inspector, part, defective)

    @app.delete("/parts/{part}/answer", response_model=PartOut, responses=refusals | missing | conflict)
    def take_back(part: int) -> PartOut:
        """Takes back the last answer."""
        return _answered(inspector, part, None)

    @app.put("/alarms/{alarm}/reason", response_model=AlarmOut, responses=refusals | missing)
    def acknowledge(
        alarm: int, reason: Annotated[str, Query(min_length=1, max_length=500, description="the operator's reason")]
    ) -> AlarmOut:
        """Acknowledges an alarm with a reason, such as a new batch. It is not raised again for that."""
        found = inspector.acknowledge(alarm, reason) if abs(alarm) <= LAST_NUMBER else None
        if found is None:
            raise Refused(404, f"there is no alarm {alarm}")
        return alarm_out(found)

    @app.get("/alarms", response_model=list[AlarmOut], responses=refusals)
    def alarms(limit: Annotated[int, Query(ge=1, le=1000)] = 20, before: Number = 0) -> list[AlarmOut]:
        """The last alarms, newest first."""
        return [alarm_out(alarm) for alarm in ledger.alarms(limit, before)]

    @app.get(
        "/alarms/{alarm}/sheet",
        responses=refusals | missing | {200: {"content": {"image/png": {}}}},
        response_class=FileResponse,
    )
    def sheet(alarm: int) -> Response:
        """The contact sheet of a recurrence alarm."""
        found = ledger.alarm(alarm) if abs(alarm) <= LAST_NUMBER else None
        path = inspector.sheet(found) if found else None
        if path is None:
            raise Refused(404, f"there is no contact sheet for alarm {alarm}")
        return FileResponse(path, media_type="image/png")

    @app.get("/summary", response_model=Summary, responses=refusals)
    def summary() -> Summary:
        """Counts of parts, waiting photos and alarms."""
        return Summary(
            **ledger.count(), waiting=line.waiting, alarms=ledger.last_alarm(), last=ledger.next_number() - 1
        )

    @app.get("/health", responses={503: {"model": Problem, "description": "verdicts cannot be recorded"}})
    def health() -> dict[str, str]:
        """Whether parts can be inspected and recorded."""
        inspector.check()
        return {"status": "ok"}

    @app.get("/metrics", response_class=PlainTextResponse, responses=refusals)
    def metrics() -> Response:
        """Metrics for Prometheus."""
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    for place, (file, kind) in {
        "/": ("page.html", "text/html"),
        "/page.css": ("page.css", "text/css"),
        "/page.js": ("page.js", "text/javascript"),
    }.items():
        app.add_api_route(place, _static(file, kind), methods=["GET", "HEAD"], include_in_schema=False)
    app.add_api_route("/health", health, methods=["HEAD"], include_in_schema=False)
    app.add_api_route("/docs", _listing(app), include_in_schema=False)
    return app


def _unicode(header: str) -> str:
    """A header decoded as UTF-8, which most clients send; Starlette decodes it as Latin-1."""
    try:
        return header.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return header


def _out(part: Part, fields: str) -> PartOut | VerdictOut:
    return verdict_out(part) if fields == "verdict" else part_out(part)


def _answer(part: Part, fields: str) -> Response:
    status = 200 if part.status == "judged" else 422
    return Response(_out(part, fields).model_dump_json(), status, media_type="application/json")


def _answered(inspector: Inspector, number: int, defective: bool | None) -> PartOut:
    try:
        part = inspector.answer(number, defective) if abs(number) <= LAST_NUMBER else None
    except Unanswerable as error:
        raise Refused(409, str(error)) from None
    if part is None:
        raise Refused(404, f"there is no part {number}")
    return part_out(part)


def _part(ledger: Ledger, number: int) -> Part:
    part = ledger.get(number) if abs(number) <= LAST_NUMBER else None
    if part is None:
        raise Refused(404, f"there is no part {number}")
    return part


def _static(file: str, kind: str) -> Callable[[], Response]:
    @cache
    def content() -> bytes:
        return (files("codegraph_jax.line") / file).read_bytes()

    def answer() -> Response:
        return Response(content(), media_type=f"{kind}; charset=utf-8", headers={"Cache-Control": "no-cache"})

    return answer


def _listing(app: FastAPI) -> Callable[[], Response]:
    """A plain-text list of all requests; FastAPI's own pages load scripts from the internet."""

    def listing() -> Response:
        lines = ["All requests; /openapi.json has every field.", ""]
        for place, operations in app.openapi()["paths"].items():
            for method, operation in operations.items():
                lines.append(f"{method.upper():6} {place:24} {operation['description']}")
        lines += ["", f"To inspect a part, {HOW.replace('URL', '/parts')}"]
        return PlainTextResponse("\n".join(lines) + "\n")

    return listing
