"""The HTTP server of the app: its page, the reports, and the JSON interface of the page."""

import asyncio
import hmac
import json
import os
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Body, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, StreamingResponse
from markupsafe import escape
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from codegraph_jax.app.folders import Folders, path_of, place_of
from codegraph_jax.app.jobs import LINE, PACKAGE, Jobs
from codegraph_jax.app.runs import RunError, Runs, without
from codegraph_jax.app.state import HOME, KINDS, State
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.files import write_text
from codegraph_jax.core.names import file_stem, printable
from codegraph_jax.line.access_control import HEADERS, refusal
from codegraph_jax.line.targets import require_targets, shown
from codegraph_jax.report.policy import content_policy, digest, report_parts
from codegraph_jax.report.texts import package_text, shared_script, texts_script

COOKIE = "codegraph"
BANKS, LINES, UPLOADS = "banks", "lines", "uploads"
"""Directories below the results."""
COMPARED = "compared"
"""Directory of the state with the page of the last comparison."""
SANDBOX = "sandbox allow-scripts allow-downloads; frame-ancestors 'none'"
"""Policy of a report that this version has not made: its scripts cannot call the app."""
Name = Annotated[str, Body(embed=True, max_length=200)]
SET_BY_APP = ("review", "data.root", "data.add", "bank.")
"""Settings that the page does not change."""
MOST_BODY = 64 * 2**20
"""Largest request besides uploads."""


class Place(BaseModel):
    """A path that the user has typed, or a place."""

    path: str = Field("", max_length=4096)
    place: str = Field("", max_length=16_384)

    @property
    def chosen(self) -> str:
        """The path."""
        return path_of(self.place) if self.place else self.path


class Estimate(Place):
    """A folder, and the settings on which the time depends."""

    network: str = Field("", pattern=r"^(\w[\w.-]*)?$")
    size: int = Field(0, ge=0, le=4096)
    fit: Literal["", "squeeze", "pad", "tile", "auto"] = ""


class Start(Estimate):
    """A new inspection."""

    bank: str = ""
    false_alarms: Literal["", "low", "normal", "high"] = ""
    roi: str = ""
    more: str = Field("", max_length=4000)


class NewLine(Place):
    """A new line, with the folder that it watches and the targets of its results, separated by commas."""

    bank: str
    send: str = Field("", max_length=4000)


class Change(BaseModel):
    """An answer in a report; None removes it."""

    kind: str = Field(pattern=f"^({'|'.join(KINDS)})$")
    key: str = Field(max_length=1000)
    value: Any


class Changes(BaseModel):
    """Answers in a report."""

    changes: list[Change] = Field(max_length=100_000)


class App:
    """State that all requests share.

    Args:
        home: the directory of results.
        key: the text that the address and the cookie must carry.
    """

    def __init__(self, home: Path, key: str):
        self.home, self.key = home, key
        self.state = State(home / HOME / "app.sqlite")
        self.folders = Folders(self.state, home / UPLOADS)
        self.runs, self.jobs = Runs(home), Jobs(self.state, home)
        self.estimates: dict[str, Any] = {}
        self.estimating = asyncio.Lock()

    @cached_property
    def own_policy(self) -> str:
        """The element with the policy in a report of this version."""
        policy = escape(content_policy(*report_parts()))
        return f'<meta http-equiv="Content-Security-Policy" content="{policy}">'

    def last_jobs(self) -> dict[str, dict[str, Any]]:
        """The last job of each run."""
        return {job["run"]: job for job in self.state.jobs()}

    def start(self, wanted: Start) -> str:
        """Adds a run to the queue; returns its name."""
        folder = wanted.chosen
        self.folders.require_opened(folder)
        words = [f"--config.data.root={folder}"]
        if wanted.bank:
            words = ["inspect", str(self.bank(wanted.bank)), *words]
        else:
            words = ["detect", *words]
            words += [f"--backbone={wanted.network}"] if wanted.network else []
            words += [f"--size={wanted.size}"] if wanted.size else []
            words += [f"--fit={wanted.fit}"] if wanted.fit else []
            words += [f"--false-alarms={wanted.false_alarms}"] if wanted.false_alarms else []
        if wanted.roi:
            words.append(f"--roi={os.path.expanduser(wanted.roi)}")  # noqa: PTH111
        words += ["--config.report.files=page,heatmaps,masks,coco,maps", *more_flags(wanted.more)]
        run = self.new_run(Path(folder).name or "photos", "-inspected" if wanted.bank else "")
        self.folders.state.open_folder(folder, used=True)
        self.jobs.add(words[0], run, [*words, f"--workdir={self.home / run}"])
        return run

    def new_run(self, stem: str, suffix: str = "") -> str:
        """The name of a new run, whose directory is made at once: it is listed before its process has begun."""
        taken = set(self.last_jobs())
        name = self.runs.free_name(file_stem(printable(stem)) + suffix)
        number = 1
        while name in taken or name in (BANKS, LINES, UPLOADS):
            number += 1
            name = self.runs.free_name(f"{file_stem(printable(stem))}{suffix}-{number}")
        (self.home / name).mkdir()
        return name

    def repeat(self, run: str, kind: str, *flags: str) -> None:
        """Runs the command of a finished run again in the same directory."""
        self.require_idle(run)
        review = self.home / HOME / "reviews" / f"{run}.json"
        given = {flag.partition("=")[0].lstrip("-") for flag in flags}
        words = without(self.runs.again(run), *given)
        if not any(flag.startswith("--review=") for flag in flags) and review.is_file():
            flags = (*flags, f"--review={review}")
        self.jobs.add(kind, run, [*words, *flags, f"--workdir={self.home / run}"])

    def require_idle(self, run: str) -> None:
        """Refuses to change a run that is under way."""
        about = self.runs.about(run, self.last_jobs().get(run))
        if about is None or about["state"] in ("waiting", "running"):
            raise RunError(f"{printable(run)!r} is being computed; wait until it is finished, or cancel it")

    def resume(self, run: str) -> None:
        """Starts the last command of a run again, which goes on from its saved state."""
        self.runs.workdir(run)
        self.require_idle(run)
        job = self.last_jobs().get(run)
        if job is None:
            raise RunError(f"{printable(run)!r} was started in a terminal: start the same command again there")
        self.jobs.add(job["kind"], run, job["words"])

    def banks(self) -> list[dict[str, Any]]:
        """Reference banks, newest first."""
        found = []
        with suppress(OSError):
            for path in (self.home / BANKS).glob("*.safetensors"):
                status = path.stat()
                found.append({"bank": path.name, "name": path.stem, "date": status.st_mtime, "bytes": status.st_size})
        return sorted(found, key=lambda bank: bank["date"], reverse=True)

    def bank(self, name: str) -> Path:
        """The file of a bank."""
        if any(bank["bank"] == name for bank in self.banks()):
            return self.home / BANKS / name
        raise RunError(f"no reference bank has the name {printable(name)!r}")

    def lines(self) -> list[dict[str, Any]]:
        """Lines that the app has started, newest first."""
        found = []
        for run, job in self.last_jobs().items():
            if job["kind"] == LINE:
                words = dict(word.removeprefix("--").partition("=")[::2] for word in job["words"] if "=" in word)
                address = self.jobs.address(job["id"]) if job["state"] == "running" else ""
                found.append(
                    {"line": run, "name": run.rpartition("/")[2], "state": job["state"], "message": job["message"],
                     "address": address, "date": job["created"], "bank": Path(job["words"][1]).stem,
                     "folder": printable(words.get("config.watch.root", "")),
                     "send": ", ".join(shown(text) for text in words.get("send", "").split(",") if text)}
                )  # fmt: skip
        return sorted(found, key=lambda line: line["date"], reverse=True)

    def add_line(self, wanted: NewLine) -> str:
        """Starts a new line on a free port of this computer."""
        bank = self.bank(wanted.bank)
        folder = wanted.chosen
        words = ["serve", str(bank), "--port=0"]
        if folder:
            self.folders.require_opened(folder)
            words.append(f"--config.watch.root={folder}")
        if targets := [text.strip() for text in wanted.send.split(",") if text.strip()]:
            try:
                require_targets(targets)
            except ValueError as error:
                raise UserError(str(error)) from None
            words.append(f"--send={','.join(targets)}")
        stem, number, taken = file_stem(bank.stem), 1, set(self.last_jobs())
        while f"{LINES}/{stem}-{number}" in taken or (self.home / LINES / f"{stem}-{number}").exists():
            number += 1
        line = f"{LINES}/{stem}-{number}"
        self.jobs.add(LINE, line, [*words, f"--workdir={self.home / line}"])
        return line

    def line_job(self, line: str) -> dict[str, Any]:
        """The last job of a line."""
        job = self.last_jobs().get(line)
        if job is None or job["kind"] != LINE:
            raise RunError(f"no line has the name {printable(line)!r}")
        return job

    async def estimate(self, wanted: Estimate) -> Any:
        """The estimate of a run, computed once in a process of its own."""
        folder = wanted.chosen
        self.folders.require_opened(folder)
        words = [folder, wanted.network, str(wanted.size), wanted.fit]
        async with self.estimating:
            if (known := json.dumps(words)) not in self.estimates:
                self.estimates[known] = await run_in_threadpool(_estimated, words)
            return self.estimates[known]


def _child(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs a module of this package to its end, in at most two minutes."""
    path = os.pathsep.join(filter(None, [str(PACKAGE), os.environ.get("PYTHONPATH", "")]))
    try:
        return subprocess.run(
            [sys.executable, "-m", module, *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
            env=os.environ | {"PYTHONPATH": path}, encoding="utf-8", errors="replace",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess([], 1, "", str(error))


def _estimated(words: list[str]) -> Any:
    try:
        return json.loads(_child("codegraph_jax.app.estimate", *words).stdout.splitlines()[-1])
    except (ValueError, IndexError):
        return {"problem": "The time cannot be estimated."}


def more_flags(text: str) -> list[str]:
    """Further flags of a run.

    Raises:
        RunError: a word is not a setting with a value, or the app sets it itself.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise RunError(f"further settings: {error}") from None
    for word in words:
        name, equals, _ = word.partition("=")
        if not name.startswith("--config.") or not equals:
            raise RunError(f"further settings: {word!r} does not have the form --config.GROUP.NAME=VALUE")
        if name.removeprefix("--config.").startswith(SET_BY_APP):
            raise RunError(f"further settings: {name} is set by the app")
    return words


def create_app(home: Path, key: str) -> FastAPI:
    """The application.

    Args:
        home: the directory of results.
        key: the text that the first address and then the cookie must carry.
    """
    shared = App(home, key)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        shared.jobs.start()
        yield
        await run_in_threadpool(shared.jobs.stop)
        shared.state.close()

    app = FastAPI(title="codegraph", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None,
                  redirect_slashes=False)  # fmt: skip
    app.state.shared = shared
    _add_checks(app, key)
    _add_pages(app)
    _add_files(app, shared)
    _add_folder_routes(app, shared)
    _add_run_routes(app, shared)
    _add_changes(app, shared)
    _add_answer_routes(app, shared)
    _add_line_routes(app, shared)
    return app


def _add_checks(app: FastAPI, key: str) -> None:
    @app.middleware("http")
    async def check(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = refusal(request.scope, "", True) or _without_key(request, key) or await call_next(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    @app.exception_handler(UserError)
    async def refused(request: Request, error: UserError) -> Response:
        return JSONResponse({"detail": str(error)}, 404 if isinstance(error, RunError) else 400)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        # the library repeats the input, which need not be valid text
        return JSONResponse({"detail": "the request is invalid"}, 422)


def _without_key(request: Request, key: str) -> Response | None:
    """The response to a request without the key; sets the cookie if the address has the key."""
    if hmac.compare_digest(request.cookies.get(COOKIE, "").encode(), key.encode()):
        length = request.headers.get("content-length", "")
        if request.method == "POST" and not (length.isdigit() and int(length) <= MOST_BODY):
            return JSONResponse({"detail": "the request is too large"}, 413)
        return None
    if request.scope["path"] == "/" and hmac.compare_digest(request.query_params.get("key", "").encode(), key.encode()):
        response = RedirectResponse("/", 303)
        response.set_cookie(COOKIE, key, httponly=True, samesite="strict", max_age=400 * 86400)
        return response
    return HTMLResponse("<!doctype html><title>codegraph</title><p>Open the address that <code>codegraph app</code> "
                        "has printed.", 401)  # fmt: skip


def _add_pages(app: FastAPI) -> None:
    texts = texts_script("app")
    # a report has the shared script already
    scripts = {"app.js": shared_script() + texts, "live.js": texts}
    files = {"page.html": "html", "app.css": "css", "live.css": "css", "app.js": "javascript", "live.js": "javascript"}

    def add(address: str, text: str, kind: str) -> None:
        app.add_api_route(address, lambda: Response(text, media_type=f"text/{kind}"), methods=["GET", "HEAD"])

    for name, kind in files.items():
        address = "/" if name == "page.html" else f"/{name}"
        add(address, scripts.get(name, "") + package_text(name, "app"), kind)
    add("/page.css", package_text("page.css"), "css")


def _add_files(app: FastAPI, shared: App) -> None:
    @app.get("/runs/{run}/report.html")
    def report(run: str) -> Response:
        """The report, which sends its answers to the app if this version has made it."""
        html = shared.runs.file(run, "report.html").read_bytes()
        tag = shared.own_policy.encode()
        if tag not in html[:10_000]:
            return Response(html, media_type="text/html", headers={"Content-Security-Policy": SANDBOX})
        head = f'<meta name="codegraph-run" content="{escape(run)}"><link rel="stylesheet" href="/live.css">'
        html = html.replace(tag, head.encode("utf-8"), 1)
        html = html.replace(b"</body>", b'<script src="/live.js"></script></body>')
        style, script = (f"'sha256-{digest(part)}'" for part in report_parts())
        policy = (
            f"default-src 'none'; img-src data: 'self'; style-src 'self' {style}; script-src 'self' {script}; "
            "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
        )
        return Response(html, media_type="text/html", headers={"Content-Security-Policy": policy})

    @app.get("/runs/{run}/masks.zip")
    def masks(run: str) -> Response:
        return StreamingResponse(shared.runs.masks(run), media_type="application/zip", headers=_attached("masks.zip"))

    @app.get("/runs/{run}/table.csv")
    def table(run: str, form: Literal["excel", "excel_english"] = "excel_english") -> Response:
        return Response(shared.runs.table(run, form), media_type="text/csv", headers=_attached("scores.csv"))

    @app.get("/runs/{run}/{name:path}")
    def file(run: str, name: str) -> Response:
        """A file of a run; other pages than the report are shown as text."""
        path = shared.runs.file(run, path_of(name))
        kinds = {".png": "image/png", ".json": "application/json", ".csv": "text/csv", ".npz": "application/zip"}
        return FileResponse(path, media_type=kinds.get(path.suffix.lower(), "text/plain"))

    @app.get("/compared.html")
    def compared() -> Response:
        path = shared.home / HOME / COMPARED / "compare.html"
        return FileResponse(path, media_type="text/html", headers={"Content-Security-Policy": SANDBOX})

    @app.get("/thumbnails/{run}")
    def thumbnail(run: str) -> Response:
        return _jpeg(shared.folders.small(shared.runs.thumbnail(run), 256))


def _add_folder_routes(app: FastAPI, shared: App) -> None:
    @app.post("/api/open")
    def opened(wanted: Place) -> Any:
        return shared.folders.open(wanted.chosen)

    @app.post("/api/contents")
    def contents(wanted: Place) -> Any:
        return shared.folders.contents(wanted.chosen)

    @app.post("/api/estimate")
    async def estimate(wanted: Estimate) -> Any:
        return await shared.estimate(wanted)

    @app.get("/api/picture")
    def picture(place: str, side: Annotated[int, Query(ge=1, le=1024)] = 256) -> Response:
        return _jpeg(shared.folders.preview(path_of(place), side))

    @app.post("/api/uploads")
    def upload(name: Name = "") -> Any:
        return shared.folders.new_upload(file_stem(name or "photos"))

    @app.put("/api/uploads/{folder}")
    async def receive(folder: str, name: str, request: Request) -> Any:
        await shared.folders.receive(folder, name, request.stream())
        return {}


def _add_run_routes(app: FastAPI, shared: App) -> None:
    @app.get("/api/state")
    def state() -> Any:
        """Runs, banks, lines and folders, for the page."""
        jobs = shared.last_jobs()
        return {
            "home": printable(str(shared.home)),
            "runs": shared.runs.listed(jobs, shared.state.names()),
            "banks": shared.banks(),
            "lines": shared.lines(),
            "roots": shared.folders.roots(),
            "recent": [
                {"place": place_of(path), "name": printable(path)}
                for path in shared.state.recent_folders() if Path(path).is_dir()
            ],
        }  # fmt: skip

    @app.get("/api/runs/{run}")
    def about(run: str) -> Any:
        found = shared.runs.about(run, shared.last_jobs().get(run))
        if found is None:
            raise RunError(f"no run has the name {printable(run)!r}")
        return found | {"name": shared.state.names().get(run) or printable(run)}

    @app.get("/api/runs/{run}/log")
    def log(run: str) -> Any:
        job = shared.last_jobs().get(run)
        return {"text": shared.jobs.log(job["id"]) if job else ""}

    @app.post("/api/runs")
    def start(wanted: Start) -> Any:
        return {"run": shared.start(wanted)}

    @app.post("/api/demo")
    def demo() -> Any:
        """Draws parts and inspects them."""
        run = shared.new_run("demo")
        shared.jobs.add("detect", run, ["demo", "--config.state=keep", f"--workdir={shared.home / run}"])
        return {"run": run}


def _add_changes(app: FastAPI, shared: App) -> None:
    @app.post("/api/runs/{run}/cancel")
    def cancel(run: str) -> Any:
        shared.jobs.cancel(run)
        return {}

    @app.post("/api/runs/{run}/resume")
    def resume(run: str) -> Any:
        shared.resume(run)
        return {}

    @app.post("/api/runs/{run}/name")
    def rename(run: str, name: Name = "") -> Any:
        shared.runs.workdir(run)
        shared.state.name(run, name.strip() or run)
        return {}

    @app.delete("/api/runs/{run}")
    def delete(run: str) -> Any:
        shared.require_idle(run)
        with suppress(RunError):  # a run that has not begun has no directory
            shared.runs.delete(run)
        shared.state.forget(run)
        return {}

    @app.post("/api/runs/{run}/bank")
    def save_bank(run: str, name: Name = "") -> Any:
        """Saves a reference bank of a run."""
        shared.runs.workdir(run)
        name = file_stem(name.strip() or run)
        (shared.home / BANKS).mkdir(exist_ok=True)
        words = f"--save-bank={shared.home / BANKS / name}.safetensors"
        shared.repeat(run, "bank", words)
        return {"bank": f"{name}.safetensors"}

    @app.post("/api/compare")
    def compare(runs: Annotated[tuple[str, str], Body(embed=True)]) -> Any:
        """Writes the page on what changed between two runs."""
        pair = [str(shared.runs.workdir(run)) for run in runs]
        place = shared.home / HOME / COMPARED
        ended = _child("codegraph_jax", "compare", *pair, f"--workdir={place}")
        if ended.returncode:
            raise RunError((ended.stderr.strip().splitlines() or ["no comparison"])[-1].removeprefix("error: "))
        return {}


def _add_answer_routes(app: FastAPI, shared: App) -> None:
    @app.get("/api/runs/{run}/answers")
    def answers(run: str, since: int = 0) -> Any:
        # the revision is read first: an answer that comes in between is sent twice, not lost
        return {"revision": shared.state.revision(), "answers": shared.state.answers(run, since)}

    @app.post("/api/runs/{run}/answers")
    def answer(run: str, wanted: Changes) -> Any:
        shared.runs.workdir(run)
        return {"revision": shared.state.answer(run, [(c.kind, c.key, c.value) for c in wanted.changes])}

    @app.post("/api/runs/{run}/review")
    def review(run: str, text: Annotated[str, Body(embed=True)]) -> Any:
        """Applies the answers: the run decides again."""
        shared.runs.workdir(run)
        path = shared.home / HOME / "reviews" / f"{run}.json"
        shared.require_idle(run)
        write_text(path, text)
        shared.repeat(run, "review", f"--review={path}")
        return {}


def _add_line_routes(app: FastAPI, shared: App) -> None:
    @app.post("/api/lines")
    def add(wanted: NewLine) -> Any:
        return {"line": shared.add_line(wanted)}

    @app.post("/api/lines/{name}/{action}")
    def change(name: str, action: Literal["start", "stop"]) -> Any:
        line = f"{LINES}/{name}"
        job = shared.line_job(line)
        if action == "stop":
            shared.jobs.cancel(line)
        elif job["state"] not in ("waiting", "running"):
            shared.jobs.add(LINE, line, job["words"])
        return {}


def _attached(name: str) -> Mapping[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}


def _jpeg(data: bytes) -> Response:
    return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})
