"""The HTTP server of a line: takes photos, returns verdicts, and serves a status page."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any, Literal, TypeVar

from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from codegraph_jax.data.decoding import UnreadableImageError
from codegraph_jax.line.access_control import LOOPBACK, add_text, refusal, with_headers
from codegraph_jax.line.database import LedgerUnavailableError
from codegraph_jax.line.inspector import AnswerError, Inspector
from codegraph_jax.line.part import Part, operator_sentence
from codegraph_jax.line.responses import (
    AlarmOut,
    DecisionOut,
    LineSummary,
    Message,
    PartOut,
    Problem,
    ScoreOut,
    UndeliveredOut,
)
from codegraph_jax.line.settings import WebConfig
from codegraph_jax.line.uploads import HOW_TO_SEND, RequestError, Uploads
from codegraph_jax.report.texts import package_text, shared_script, style_of, texts_script

T = TypeVar("T")
LAST_NUMBER = 2**63 - 1
"""Largest integer in SQLite."""
BINARY = {"type": "string", "format": "binary"}
PHOTO_BODY = {
    "required": True,
    "content": {
        "image/*": {"schema": BINARY},
        "multipart/form-data": {"schema": {"type": "object", "properties": {"photo": BINARY}, "required": ["photo"]}},
    },
}
"""Body of `POST /parts` in OpenAPI."""
Responses = dict[int | str, dict[str, Any]]
PROBLEMS: Responses = {
    status: {"model": Problem, "description": description}
    for status, description in {
        400: "the request is invalid",
        401: "the token is missing or wrong",
        404: "not found",
        408: "the photo took too long to arrive",
        409: "the answer is not possible",
        413: "the photo is too large",
        415: "the body is compressed",
        503: "unavailable now: try again after the seconds in Retry-After",
    }.items()
}
REFUSALS: Responses = {status: PROBLEMS[status] for status in (400, 401, 503)}
MISSING: Responses = {404: PROBLEMS[404]}
Number = Annotated[int, Query(ge=0, le=LAST_NUMBER)]
Fields = Annotated[
    Literal["all", "decision"], Query(description="`decision` leaves out regions, map and alarms, for a controller")
]

logger = logging.getLogger(__name__)


class _LineMetrics:
    """Prometheus metrics of a line; those from the ledger continue after a restart.

    Args:
        uploads: the uploaded photos of the line.
    """

    def __init__(self, uploads: Uploads):
        self.uploads = uploads

    def collect(self) -> Any:
        threshold = self.uploads.inspector.bank.calibration.threshold
        yield GaugeMetricFamily(
            "codegraph_waiting", "Photos that wait for inspection.", value=self.uploads.waiting_photos
        )
        yield GaugeMetricFamily("codegraph_threshold", "Least score that is flagged.", value=threshold)
        with suppress(LedgerUnavailableError):
            ledger = self.uploads.ledger
            counts = ledger.counts()
            parts = CounterMetricFamily("codegraph_parts", "Parts by verdict.", labels=["verdict"])
            counts["passed"] = counts["inspected"] - counts["flagged"]
            for verdict in ("passed", "flagged", "not_inspected"):
                parts.add_metric([verdict], counts[verdict])
            yield parts
            yield CounterMetricFamily("codegraph_alarms", "Alarms.", value=ledger.last_alarm())
            undelivered = sum(one.waiting + one.set_aside for one in ledger.outbox.undelivered())
            yield GaugeMetricFamily(
                "codegraph_undelivered", "Results that a target has not accepted.", value=undelivered
            )


def create_app(inspector: Inspector, settings: WebConfig, token: str = "", csv: str = "plain") -> FastAPI:
    """The application of a line.

    Args:
        inspector: scores and records the parts.
        settings: limits of the server.
        token: the token that requests must carry as `Authorization: Bearer TOKEN`; empty: none is needed.
        csv: form of /parts.csv, see `TablesConfig.csv`.
    """
    uploads = Uploads(inspector, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        uploads.close()

    app = FastAPI(
        title="Line inspection",
        version="1",
        description="Each part is scored against a reference bank, which was made from a set of unlabelled photos.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        # redirects would lead to the address in the Host header
        redirect_slashes=False,
    )
    app.state.uploads = uploads
    registry = CollectorRegistry()
    _add_checks(app, token, settings.host in LOOPBACK)
    _add_part_routes(app, uploads, registry, csv)
    _add_single_part_routes(app, uploads)
    _add_alarm_routes(app, inspector)
    _add_status_routes(app, uploads, registry)
    _add_pages(app)
    return app


def _add_checks(app: FastAPI, token: str, local: bool) -> None:
    """Adds the check of every request, and the responses to refused and failed requests."""

    @app.middleware("http")
    async def check(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        return with_headers(refusal(request.scope, token, local) or await call_next(request))

    @app.exception_handler(RequestError)
    async def refused(request: Request, error: RequestError) -> Response:
        return JSONResponse({"detail": error.reason}, error.status, headers=error.headers)

    @app.exception_handler(AnswerError)
    async def impossible(request: Request, error: AnswerError) -> Response:
        return JSONResponse({"detail": str(error)}, 409)

    @app.exception_handler(ClientDisconnect)
    async def disconnected(request: Request, error: ClientDisconnect) -> Response:
        logger.warning("%s: the client disconnected before its photo had arrived", request.scope["path"])
        return JSONResponse({"detail": "the photo did not arrive completely"}, 400)

    @app.exception_handler(LedgerUnavailableError)
    async def unavailable(request: Request, error: LedgerUnavailableError) -> Response:
        return JSONResponse({"detail": str(error)}, 503, headers={"Retry-After": "2"})


def _add_part_routes(app: FastAPI, uploads: Uploads, registry: CollectorRegistry, csv: str) -> None:
    ledger = uploads.ledger
    seconds = Histogram(
        "codegraph_seconds", "Seconds of an inspection, without waiting in the queue.", registry=registry,
        buckets=(0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
    )  # fmt: skip

    @app.post(
        "/parts",
        response_model=PartOut | DecisionOut,
        responses=REFUSALS
        | {
            **{status: PROBLEMS[status] for status in (408, 413, 415)},
            422: {
                "model": PartOut | DecisionOut | Any,
                "description": "the photo cannot be read, and the part is recorded as not inspected; or the key was "
                "used for another photo",
            },
        },
        openapi_extra={"requestBody": PHOTO_BODY},
    )
    async def inspect_part(
        request: Request,
        response: Response,
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
        part = await uploads.receive(_unicode(idempotency_key), name, await uploads.read(request))
        if part.seconds is not None:
            seconds.observe(part.seconds)
        response.status_code = 200 if part.status == "inspected" else 422
        return _out(part, fields)

    @app.get("/parts", response_model=list[PartOut | DecisionOut], responses=REFUSALS)
    def parts(
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
        before: Number = 0,
        flagged: bool = False,
        fields: Fields = "all",
    ) -> list[PartOut | DecisionOut]:
        """The last parts, newest first."""
        return [_out(part, fields) for part in ledger.latest(limit, before, flagged)]

    @app.get("/scores", response_model=list[ScoreOut], responses=REFUSALS)
    def scores(limit: Annotated[int, Query(ge=1, le=5000)] = 300) -> Any:
        """The scores of the last parts, oldest first, for charts."""
        return ledger.scores(limit)

    @app.get("/parts.csv", responses=REFUSALS | {200: {"content": {"text/csv": {}}}}, response_class=StreamingResponse)
    def table() -> Response:
        """All parts as CSV."""
        return StreamingResponse(ledger.csv(csv), media_type="text/csv; charset=utf-8")


def _add_single_part_routes(app: FastAPI, uploads: Uploads) -> None:
    ledger = uploads.ledger

    @app.get("/parts/{part}", response_model=PartOut | DecisionOut, responses=REFUSALS | MISSING)
    def one(part: int, fields: Fields = "all") -> PartOut | DecisionOut:
        """One part."""
        return _out(_existing("part", part, ledger.by_number), fields)

    @app.get("/parts/{part}/photo", responses=_content("image/jpeg"), response_class=Response)
    async def photo(part: int) -> Response:
        """The photo of a part, reduced in size."""
        found = await run_in_threadpool(_existing, "part", part, ledger.by_number)
        try:
            data = await uploads.preview(found)
        except UnreadableImageError:
            raise RequestError(404, f"the photo of part {part} no longer exists or cannot be read") from None
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    @app.get("/parts/{part}/heatmap", responses=_content("image/png"), response_class=Response)
    def heatmap(part: int) -> Response:
        """The anomaly map of a part, a small transparent PNG to lay over the photo."""
        found = _existing("part", part, ledger.by_number)
        if found.heatmap is None:
            raise RequestError(404, f"part {part} has no anomaly map")
        return Response(found.heatmap, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})

    @app.put("/parts/{part}/answer", response_model=PartOut, responses=REFUSALS | MISSING | {409: PROBLEMS[409]})
    def answer(part: int, defective: bool) -> Any:
        """Sets the operator's answer. The bank stores it and applies it to similar parts."""
        return _existing("part", part, lambda number: uploads.inspector.answer(number, defective))

    @app.delete("/parts/{part}/answer", response_model=PartOut, responses=REFUSALS | MISSING | {409: PROBLEMS[409]})
    def take_back(part: int) -> Any:
        """Takes back the last answer."""
        return _existing("part", part, uploads.inspector.take_back_answer)


def _add_alarm_routes(app: FastAPI, inspector: Inspector) -> None:
    ledger = inspector.ledger

    @app.put("/alarms/{alarm}/acknowledgement", response_model=AlarmOut, responses=REFUSALS | MISSING)
    def acknowledge(
        alarm: int, reason: Annotated[str, Query(min_length=1, max_length=500, description="the operator's reason")]
    ) -> Any:
        """Acknowledges an alarm with a reason, such as a new batch. The same cause raises no further alarm."""
        return _existing("alarm", alarm, lambda number: inspector.acknowledge(number, reason))

    @app.get("/alarms", response_model=list[AlarmOut], responses=REFUSALS)
    def alarms(limit: Annotated[int, Query(ge=1, le=1000)] = 20, before: Number = 0) -> Any:
        """The last alarms, newest first."""
        return ledger.alarms(limit, before)

    @app.get("/alarms/{alarm}/sheet", responses=_content("image/png"), response_class=FileResponse)
    def sheet(alarm: int) -> Response:
        """The contact sheet of a recurrence alarm."""
        path = inspector.sheet(_existing("alarm", alarm, ledger.alarm))
        if path is None:
            raise RequestError(404, f"there is no contact sheet for alarm {alarm}")
        return FileResponse(path, media_type="image/png")


def _add_status_routes(app: FastAPI, uploads: Uploads, registry: CollectorRegistry) -> None:
    inspector, ledger = uploads.inspector, uploads.ledger
    registry.register(_LineMetrics(uploads))

    @app.get("/summary", response_model=LineSummary, responses=REFUSALS)
    def summary() -> LineSummary:
        """Counts of parts, waiting photos and alarms."""
        return LineSummary(waiting=uploads.waiting_photos, **ledger.summary())

    @app.post("/undelivered", response_model=list[UndeliveredOut], responses=REFUSALS)
    def send_again() -> Any:
        """Sends the results that were not delivered again, at once."""
        ledger.outbox.retry()
        return ledger.outbox.undelivered()

    @app.delete("/undelivered", response_model=list[UndeliveredOut], responses=REFUSALS)
    def discard() -> Any:
        """Deletes the messages that were set aside; the parts stay."""
        ledger.outbox.discard()
        return ledger.outbox.undelivered()

    @app.webhooks.post("result")
    def result(message: Message) -> None:
        """Each result, as it is sent to the targets of the line."""

    @app.get("/health", responses={503: {"model": Problem, "description": "verdicts cannot be recorded"}})
    def health() -> dict[str, str]:
        """Whether parts can be inspected and recorded."""
        inspector.check()
        return {"status": "ok"}

    @app.get("/metrics", response_class=PlainTextResponse, responses=REFUSALS)
    def metrics() -> Response:
        """Metrics for Prometheus."""
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    app.add_api_route("/health", health, methods=["HEAD"], include_in_schema=False)


def _add_pages(app: FastAPI) -> None:
    add_text(app, "/", package_text("page.html", "line"), "html")
    add_text(app, "/page.css", style_of("line"), "css")
    add_text(app, "/page.js", shared_script() + texts_script("line") + package_text("page.js", "line"), "javascript")
    app.add_api_route("/docs", _listing(app), include_in_schema=False)


def _unicode(header: str) -> str:
    """A header decoded as UTF-8, which most clients send; Starlette decodes it as Latin-1."""
    try:
        return header.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return header


def _content(kind: str) -> Responses:
    """Responses of a request for a file of this media type."""
    return REFUSALS | MISSING | {200: {"content": {kind: {}}}}


def _out(part: Part, fields: str) -> PartOut | DecisionOut:
    return (DecisionOut if fields == "decision" else PartOut).model_validate(part)


def _existing(kind: str, number: int, find: Callable[[int], T | None]) -> T:
    """The part or alarm of a number."""
    found = find(number) if abs(number) <= LAST_NUMBER else None
    if found is None:
        raise RequestError(404, operator_sentence(f"no_{kind}", number=number))
    return found


def _listing(app: FastAPI) -> Callable[[], Response]:
    """A plain-text list of all requests, since FastAPI's own pages load scripts from the internet."""

    def listing() -> Response:
        lines = ["All requests; /openapi.json has every field.", ""]
        for path, operations in app.openapi()["paths"].items():
            for method, operation in operations.items():
                lines.append(f"{method.upper():6} {path:24} {operation['description']}")
        lines += ["", f"To inspect a part, {HOW_TO_SEND.replace('URL', '/parts')}"]
        return PlainTextResponse("\n".join(lines) + "\n")

    return listing
