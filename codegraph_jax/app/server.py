"""The HTTP server of the app: its page, the reports, and the JSON interface of the page."""

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, StreamingResponse
from markupsafe import escape
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from codegraph_jax.app.folders import decode_path
from codegraph_jax.app.line_pages import add_line_pages
from codegraph_jax.app.runs import NotFoundError
from codegraph_jax.app.service import COMPARED, Service
from codegraph_jax.app.state import STATE_DIRECTORY
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.names import printable
from codegraph_jax.line.access_control import add_text, refusal, with_headers
from codegraph_jax.report.page_security import content_policy, digest, style_and_script
from codegraph_jax.report.result_files import REPORT
from codegraph_jax.report.texts import package_text, shared_script, style_of, texts_script

COOKIE = "codegraph"
MEDIA_TYPES = {".png": "image/png", ".json": "application/json", ".csv": "text/csv", ".npz": "application/zip"}
"""Media types of the files of a run besides the report; files of other types are shown as text."""
SANDBOX = "sandbox allow-scripts allow-downloads; frame-ancestors 'none'"
"""Policy of pages that may be foreign: their scripts cannot call the app."""
MAX_BODY_BYTES = 64 * 2**20
"""Largest body of a request besides uploads."""


def create_app(results: Path, key: str) -> FastAPI:
    """The application.

    Args:
        results: the directory of results.
        key: the text that the first address and then the cookie must carry.
    """
    service = Service(results)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.jobs.start()
        yield
        await run_in_threadpool(service.jobs.stop)
        service.state.close()

    app = FastAPI(title="codegraph", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None,
                  redirect_slashes=False)  # fmt: skip
    app.state.service = service
    _add_checks(app, key)
    _add_page(app)
    _add_files(app, service)
    _add_interface(app, service)
    add_line_pages(app, service.lines)
    return app


def _add_checks(app: FastAPI, key: str) -> None:
    @app.middleware("http")
    async def check(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        refused = refusal(request.scope, "", True) or _without_key(request, key) or _too_large(request)
        response = with_headers(refused or await call_next(request))
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    @app.exception_handler(UserError)
    async def user_error(request: Request, error: UserError) -> Response:
        return _problem(404 if isinstance(error, NotFoundError) else 400, str(error))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        return _problem(error.status_code, f"{request.method} {printable(request.scope['path'])}: {error.detail}")

    @app.exception_handler(RequestValidationError)
    async def invalid_request(request: Request, error: RequestValidationError) -> Response:
        # without the input, which need not be valid text
        lines = [f"{'.'.join(map(str, one['loc'][1:])) or 'body'}: {one['msg']}" for one in error.errors()[:5]]
        return _problem(422, printable(f"the request is invalid: {'; '.join(lines)}")[:1000])


def _problem(status: int, text: str) -> Response:
    return JSONResponse({"detail": printable(text)}, status)


def _without_key(request: Request, key: str) -> Response | None:
    """The response to a request whose cookie lacks the key; it sets the cookie if the address has the key."""
    if hmac.compare_digest(request.cookies.get(COOKIE, "").encode(), key.encode()):
        return None
    if request.scope["path"] == "/" and hmac.compare_digest(request.query_params.get("key", "").encode(), key.encode()):
        response = RedirectResponse("/", 303)
        response.set_cookie(COOKIE, key, httponly=True, samesite="strict", max_age=400 * 86400)
        return response
    return HTMLResponse("<!doctype html><title>codegraph</title><p>Open the address that <code>codegraph app</code> "
                        "has printed.", 401)  # fmt: skip


def _too_large(request: Request) -> Response | None:
    """The response to a POST request whose body is too large, or may be."""
    length = request.headers.get("content-length", "")
    if request.method != "POST" or (length.isdecimal() and int(length[:20]) <= MAX_BODY_BYTES):
        return None
    return _problem(413, f"the request is larger than {MAX_BODY_BYTES >> 20} MB, or does not state its length")


def _add_page(app: FastAPI) -> None:
    own = texts_script("app") + package_text("call.js", "app")
    views = ("elements.js", "areas.js", "uploads.js", "recurring.js", "new_inspection.js")
    # a report, which loads live.js, has the shared script already
    before = {"app.js": shared_script() + own + "".join(package_text(name, "app") for name in views), "live.js": own}
    files = {"page.html": "html", "app.css": "css", "live.css": "css", "app.js": "javascript", "live.js": "javascript"}
    for name, kind in files.items():
        address = "/" if name == "page.html" else f"/{name}"
        add_text(app, address, before.get(name, "") + package_text(name, "app"), kind)
    add_text(app, "/page.css", style_of("report"), "css")


def _add_files(app: FastAPI, service: Service) -> None:
    runs = service.runs

    @app.get("/runs/{run}/report.html")
    def report(run: str) -> Response:
        """The report, which sends its answers to the app if this version has made it."""
        html = runs.file(run, REPORT).read_bytes()
        own = escape(content_policy(*style_and_script()))
        tag = f'<meta http-equiv="Content-Security-Policy" content="{own}">'.encode()
        if tag not in html[:10_000]:
            return Response(html, media_type="text/html", headers={"Content-Security-Policy": SANDBOX})
        head = f'<meta name="codegraph-run" content="{escape(run)}"><link rel="stylesheet" href="/live.css">'
        html = html.replace(tag, head.encode("utf-8"), 1)
        html = html.replace(b"</body>", b'<script src="/live.js"></script></body>')
        style, script = (f"'sha256-{digest(text)}'" for text in style_and_script())
        policy = (
            f"default-src 'none'; img-src data: 'self'; style-src 'self' {style}; script-src 'self' {script}; "
            "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
        )
        return Response(html, media_type="text/html", headers={"Content-Security-Policy": policy})

    @app.get("/runs/{run}/masks.zip")
    def masks(run: str) -> Response:
        return StreamingResponse(runs.masks(run), media_type="application/zip", headers=_attached("masks.zip"))

    @app.get("/runs/{run}/{name:path}")
    def file(run: str, name: str) -> Response:
        path = runs.file(run, decode_path(name))
        return FileResponse(path, media_type=MEDIA_TYPES.get(path.suffix.lower(), "text/plain"))

    @app.get("/compared.html")
    def compared() -> Response:
        path = service.results / STATE_DIRECTORY / COMPARED / "compare.html"
        if not path.is_file():
            raise NotFoundError("no inspections have been compared; choose two of them in the list")
        return FileResponse(path, media_type="text/html", headers={"Content-Security-Policy": SANDBOX})

    @app.get("/thumbnails/{run}")
    def thumbnail(run: str) -> Response:
        return _jpeg(service.folders.small_jpeg(runs.thumbnail(run), 256))


def _add_interface(app: FastAPI, service: Service) -> None:
    """Adds the JSON interface: methods of the service, whose parameters are path, query and body."""
    folders, jobs, lines = service.folders, service.jobs, service.lines
    for method, path, action in (
        ("GET", "/api/state", service.overview),
        ("POST", "/api/open", folders.open),
        ("POST", "/api/contents", folders.contents),
        ("POST", "/api/estimate", service.estimate),
        ("POST", "/api/uploads", folders.new_upload),
        ("POST", "/api/runs", service.start),
        ("POST", "/api/demo", service.demo),
        ("POST", "/api/compare", service.compare),
        ("GET", "/api/runs/{run}", service.runs.facts),
        ("DELETE", "/api/runs/{run}", service.delete),
        ("GET", "/api/runs/{run}/log", service.log),
        ("POST", "/api/runs/{run}/cancel", jobs.cancel),
        ("POST", "/api/runs/{run}/resume", service.resume),
        ("POST", "/api/runs/{run}/name", service.rename),
        ("POST", "/api/runs/{run}/review", service.review),
        ("POST", "/api/runs/{run}/bank", service.save_bank),
        ("GET", "/api/runs/{run}/answers", service.answers),
        ("POST", "/api/runs/{run}/answers", service.answer),
        ("DELETE", "/api/banks/{bank}", service.banks.delete),
        ("POST", "/api/lines", lines.add),
        ("DELETE", "/api/lines/{name}", lines.delete),
        ("POST", "/api/lines/{name}/{action}", lines.change),
    ):
        app.add_api_route(path, action, methods=[method], response_model=None)

    @app.put("/api/uploads/{folder}")
    async def receive(folder: str, name: str, request: Request) -> None:
        await folders.receive(folder, name, request.stream())

    @app.get("/api/preview")
    def preview(place: str, side: Annotated[int, Query(ge=1, le=1024)] = 256) -> Response:
        return _jpeg(folders.preview(decode_path(place), side))


def _attached(name: str) -> Mapping[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}


def _jpeg(data: bytes) -> Response:
    return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})
