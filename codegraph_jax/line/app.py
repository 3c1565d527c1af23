"""The HTTP server of a line: pictures in, verdicts out, and a page that shows what is going on."""

import asyncio
import hmac
import io
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily

from codegraph_jax.core.files import whole_file
from codegraph_jax.data.images import UnreadableImage, load_image
from codegraph_jax.line.answers import AlarmOut, PartOut, Problem, ScoreOut, Summary, alarm_out, part_out
from codegraph_jax.line.inspector import PICTURES, Inspector
from codegraph_jax.line.ledger import Ledger, LedgerUnavailable
from codegraph_jax.line.part import Part
from codegraph_jax.line.settings import WebSettings
from codegraph_jax.scoring.threshold import REGION_P_VALUE

LOOPBACK = ("127.0.0.1", "localhost", "::1")
SHOWN = 1024
"""Longest side in pixels of a picture on the page."""
LAST_NUMBER = 2**63 - 1
"""SQLite's."""
OPEN = frozenset({"/", "/page.css", "/page.js", "/health"})
"""What may be read without a token: nothing of it tells of parts."""
SUFFIXES = {
    "image/jpeg": ".jpg", "image/png": ".png", "image/bmp": ".bmp", "image/tiff": ".tif", "image/webp": ".webp",
    "image/gif": ".gif", "image/jp2": ".jp2", "image/avif": ".avif",
}  # fmt: skip
"""Of the files in which pictures are kept; whatever is said of them, their content decides how they are read."""
POLICY = "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


class Refused(Exception):
    """A request that is answered with a status and a reason."""

    def __init__(self, status: int, reason: str, **headers: str):
        self.status, self.reason, self.headers = status, reason, headers


class Line:
    """What the requests share: one thread that judges, and how many pictures wait for it."""

    def __init__(self, inspector: Inspector, settings: WebSettings):
        self.inspector, self.ledger, self.settings = inspector, inspector.ledger, settings
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="judge")
        self.waiting = 0

    def keep(self, data: bytes, kind: str) -> Path:
        """Writes a picture that was sent; it is on the disk when this returns."""
        day = datetime.now(UTC).strftime("%Y-%m-%d")
        path = self.inspector.workdir.absolute() / PICTURES / day / f"{uuid.uuid4().hex}{SUFFIXES.get(kind, '.image')}"
        with whole_file(path) as name, Path(name).open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        return path

    def judge(self, key: str, name: str, path: str) -> Part:
        """Judges a picture that was received."""
        part = self.inspector.judge(key, name, path)
        assert part is not None
        if part.path != path:
            # the same key was judged before
            self.ledger.drop(key)
            Path(path).unlink(missing_ok=True)
        elif self.settings.keep == "flagged" and part.p_value is not None and part.p_value > REGION_P_VALUE:
            Path(path).unlink(missing_ok=True)
        return part

    def catch_up(self) -> int:
        """Judges what an earlier start has received and not judged; returns how many."""
        left = self.ledger.inbox()
        for key, name, path in left:
            self.judge(key, name, path)
        return len(left)


class _Counts:
    """Counters for Prometheus from the ledger, so that they go on after a restart."""

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
        inspector: that judges.
        settings: limits.
        token: that requests must carry as `Authorization: Bearer TOKEN`; empty: none.
    """
    line, ledger = Line(inspector, settings), inspector.ledger
    registry = CollectorRegistry()
    registry.register(_Counts(ledger))
    seconds = Histogram(
        "codegraph_seconds", "Seconds from a picture at hand to its verdict.", registry=registry,
        buckets=(0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
    )  # fmt: skip
    waiting = Gauge("codegraph_waiting", "Pictures that wait.", registry=registry)
    waiting.set_function(lambda: line.waiting)
    threshold = Gauge("codegraph_threshold", "Score from which parts are flagged.", registry=registry)
    threshold.set(inspector.bank.calibration.threshold)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        line.thread.shutdown()

    app = FastAPI(
        title="Inspection of single parts",
        version="1",
        description="Each part is judged by a reference bank: what a set of unlabelled pictures has taught.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.line = line

    @app.middleware("http")
    async def guard(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        refused = _refusal(request, token, settings.host in LOOPBACK)
        response = refused or await go_on(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Referrer-Policy", "no-referrer")
        return response

    @app.exception_handler(Refused)
    async def say_no(request: Request, error: Refused) -> Response:
        return JSONResponse({"detail": error.reason}, error.status, headers=error.headers)

    @app.exception_handler(LedgerUnavailable)
    async def not_now(request: Request, error: LedgerUnavailable) -> Response:
        return JSONResponse({"detail": str(error)}, 503, headers={"Retry-After": "2"})

    refusals: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem, "description": description}
        for status, description in {
            400: "the request is not understood",
            401: "the token is missing or wrong",
            503: "not now: try again after the seconds that Retry-After says",
        }.items()
    }
    missing: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "there is no such thing"}}
    Number = Annotated[int, Query(ge=0, le=LAST_NUMBER)]

    @app.post(
        "/parts",
        response_model=PartOut,
        responses=refusals
        | {
            408: {"model": Problem, "description": "the picture took too long to arrive"},
            413: {"model": Problem, "description": "the picture is too large"},
            422: {"model": PartOut | Any, "description": "the picture cannot be read; the part is recorded as failed"},
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
            }
        },
    )
    async def judge(
        request: Request,
        name: Annotated[str, Query(max_length=500, description="what people call the part")] = "",
        idempotency_key: Annotated[
            str, Header(max_length=200, description="what makes it one part; sent again, the same verdict comes back")
        ] = "",
    ) -> Any:
        """Judges a part: the body is its picture."""
        key = f"request:{idempotency_key}" if idempotency_key else f"request:{uuid.uuid4().hex}"
        loop = asyncio.get_running_loop()
        if idempotency_key and (known := await loop.run_in_executor(None, ledger.find, key)):
            return _answer(known)
        if line.waiting >= settings.queue:
            raise Refused(503, f"{line.waiting} pictures are waiting", **{"Retry-After": "1"})
        line.waiting += 1
        try:
            data = await _body(request, settings)
            path = await loop.run_in_executor(None, _received, line, key, name, data, _kind(request))
            part = await loop.run_in_executor(line.thread, line.judge, key, name or Path(path).name, path)
        finally:
            line.waiting -= 1
        if part.seconds is not None:
            seconds.observe(part.seconds)
        return _answer(part)

    @app.get("/parts", response_model=list[PartOut], responses=refusals)
    def parts(
        limit: Annotated[int, Query(ge=1, le=1000)] = 50, before: Number = 0, flagged: bool = False
    ) -> list[PartOut]:
        """The last parts, the newest first."""
        return [part_out(part) for part in ledger.latest(limit, before, flagged)]

    @app.get("/scores", response_model=list[ScoreOut], responses=refusals)
    def scores(limit: Annotated[int, Query(ge=1, le=5000)] = 300) -> list[ScoreOut]:
        """The scores of the last parts, the oldest first: for charts."""
        names = ("id", "score_raw", "threshold", "flagged")
        return [ScoreOut.model_validate(dict(zip(names, row))) for row in ledger.scores(limit)]

    @app.get("/parts.csv", responses=refusals | {200: {"content": {"text/csv": {}}}}, response_class=StreamingResponse)
    def table() -> Response:
        """All parts as CSV."""
        return StreamingResponse(ledger.csv(), media_type="text/csv; charset=utf-8")

    @app.get("/parts/{part}", response_model=PartOut, responses=refusals | missing)
    def one(part: int) -> PartOut:
        """One part."""
        return part_out(_part(ledger, part))

    @app.get(
        "/parts/{part}/picture",
        responses=refusals | missing | {200: {"content": {"image/jpeg": {}}}},
        response_class=Response,
    )
    def picture(part: int) -> Response:
        """Its picture, reduced."""
        found = _part(ledger, part)
        try:
            image = load_image(found.path, inspector.bank.value_range)
        except UnreadableImage:
            raise Refused(404, f"the picture of part {part} is gone or cannot be read") from None
        image.thumbnail((SHOWN, SHOWN))
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=85)
        return Response(stream.getvalue(), media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    @app.get(
        "/parts/{part}/layer",
        responses=refusals | missing | {200: {"content": {"image/png": {}}}},
        response_class=Response,
    )
    def layer(part: int) -> Response:
        """Its anomaly map, to be laid over the picture: a small PNG with transparency."""
        found = _part(ledger, part)
        if found.layer is None:
            raise Refused(404, f"part {part} has no anomaly map")
        return Response(found.layer, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})

    @app.get("/alarms", response_model=list[AlarmOut], responses=refusals)
    def alarms(limit: Annotated[int, Query(ge=1, le=1000)] = 20, before: Number = 0) -> list[AlarmOut]:
        """The last alarms, the newest first."""
        return [alarm_out(alarm) for alarm in ledger.alarms(limit, before)]

    @app.get(
        "/alarms/{alarm}/sheet",
        responses=refusals | missing | {200: {"content": {"image/png": {}}}},
        response_class=FileResponse,
    )
    def sheet(alarm: int) -> Response:
        """The contact sheet of an alarm that something recurs."""
        found = ledger.alarm(alarm) if abs(alarm) <= LAST_NUMBER else None
        path = inspector.sheet(found) if found else None
        if path is None:
            raise Refused(404, f"there is no sheet of an alarm {alarm}")
        return FileResponse(path, media_type="image/png")

    @app.get("/summary", response_model=Summary, responses=refusals)
    def summary() -> Summary:
        """How the line stands."""
        return Summary(
            **ledger.count(), waiting=line.waiting, alarms=ledger.last_alarm(), last=ledger.next_number() - 1
        )

    @app.get("/health", responses={503: {"model": Problem, "description": "verdicts cannot be recorded"}})
    def health() -> dict[str, str]:
        """Whether parts can be judged and recorded."""
        ledger.check()
        return {"status": "ok"}

    @app.get("/metrics", response_class=PlainTextResponse, responses=refusals)
    def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    for place, (file, kind) in {
        "/": ("page.html", "text/html"),
        "/page.css": ("page.css", "text/css"),
        "/page.js": ("page.js", "text/javascript"),
    }.items():
        app.add_api_route(place, _static(file, kind), include_in_schema=False)
    return app


def _refusal(request: Request, token: str, local: bool) -> Response | None:
    """Whatever speaks against a request before it is looked at."""
    # a page elsewhere may point a name of its own at this machine
    if local and request.url.hostname not in LOOPBACK:
        return JSONResponse({"detail": "this server is known by the names of this machine alone"}, 400)
    origin = request.headers.get("origin")
    if origin and request.method != "GET" and origin.partition("://")[2] != request.headers.get("host"):
        return JSONResponse({"detail": "requests of other pages are refused"}, 403)
    if token and request.url.path not in OPEN:
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return JSONResponse(
                {"detail": "the token is missing or wrong"}, 401, headers={"WWW-Authenticate": "Bearer"}
            )
    return None


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _body(request: Request, settings: WebSettings) -> bytes:
    """The picture, as long as it keeps to the limits."""
    most = int(settings.max_megabytes * 1e6)
    reason = f"a picture may have {settings.max_megabytes:g} MB"
    with suppress(ValueError):
        if int(request.headers.get("content-length", 0)) > most:
            raise Refused(413, reason)
    data = bytearray()

    async def read() -> None:
        async for piece in request.stream():
            data.extend(piece)
            if len(data) > most:
                raise Refused(413, reason)

    try:
        await asyncio.wait_for(read(), settings.timeout)
    except TimeoutError:
        raise Refused(408, f"a picture must arrive within {settings.timeout:g} s") from None
    if not data:
        raise Refused(400, "the body is empty; send the picture as the body of the request")
    return bytes(data)


def _received(line: Line, key: str, name: str, data: bytes, kind: str) -> str:
    """Puts a picture where it survives whatever happens now; returns its path."""
    try:
        path = line.keep(data, kind)
    except OSError as error:
        raise LedgerUnavailable(f"the picture cannot be kept ({error.strerror or error})") from None
    noted = line.ledger.receive(key, name or path.name, str(path))
    if noted != str(path):
        # the same key was sent twice at a time, or by an earlier start: the first picture counts
        path.unlink(missing_ok=True)
    return noted


def _answer(part: Part) -> Response:
    return Response(
        part_out(part).model_dump_json(), 200 if part.status == "judged" else 422, media_type="application/json"
    )


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
