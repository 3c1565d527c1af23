"""The actions of the app: starting and repeating runs, saving banks, running lines. `app.server` has the routes."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, Literal

from annotated_types import Interval
from fastapi import Body
from pydantic import AfterValidator, BaseModel, Field

from codegraph_jax.app.folders import FolderInput, Folders, Name, ValidText, encode_path
from codegraph_jax.app.jobs import LINE, UNDER_WAY, Jobs, child_environment
from codegraph_jax.app.runs import NotFoundError, Runs
from codegraph_jax.app.state import HOME, KINDS, STATE_FILE, State
from codegraph_jax.core.command import without_flags
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.files import write_json, write_text
from codegraph_jax.core.names import file_stem, numbered_names, printable
from codegraph_jax.core.workdir import LOCK, REVIEW, WorkdirError, locked
from codegraph_jax.line.ledger import LEDGER_FILE, LEDGER_FILES, WRITTEN
from codegraph_jax.line.targets import require_targets, without_secrets
from codegraph_jax.tasks.paths import BANK_SUFFIX

BANKS, LINES, UPLOADS = "banks", "lines", "uploads"
"""Directories below the results."""
COMPARED, REVIEWS, AREAS = "compared", "reviews", "areas"
"""Directories of the state: the page of the last comparison, the answers of a run, and the areas that it excludes."""
SET_BY_APP = ("review", "data.root", "data.add", "bank.")
"""Settings that the page does not change."""


def _json_value(value: Any) -> Any:
    """The value, if it can be sent as JSON again."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise ValueError("is not a JSON value of valid text and finite numbers") from None
    return value


Side = Annotated[int, Field(ge=1, le=1_000_000)]
Coordinate = Annotated[float, Field(ge=-1_000_000, le=1_000_000, allow_inf_nan=False)]
Corners = Annotated[list[tuple[Coordinate, Coordinate]], Field(min_length=3, max_length=1000)]


class EstimateInput(FolderInput):
    """A folder, and the settings on which the time depends."""

    network: str = Field("", pattern=r"^(\w[\w.-]*)?$", max_length=200)
    size: int = Field(0, ge=0, le=4096)
    fit: Literal["", "squeeze", "pad", "tile", "auto"] = ""


class Areas(BaseModel):
    """Areas that are not inspected, in pixels of a photo of this width and height."""

    excluded: list[Corners] = Field(min_length=1, max_length=100)
    size: tuple[Side, Side]


class NewInspection(EstimateInput):
    """A new inspection; `answers` names a run whose answers are applied."""

    bank: str = ""
    answers: str = ""
    false_alarms: Literal["", "low", "normal", "high"] = ""
    roi: ValidText = Field("", max_length=4096)
    areas: Areas | None = None
    more: ValidText = Field("", max_length=4000)


class NewLine(FolderInput):
    """A new line, with the folder that it watches and the targets of its results, separated by commas."""

    bank: str
    send: ValidText = Field("", max_length=4000)


class ChangedAnswer(BaseModel):
    """An answer in a report; None removes it."""

    kind: str = Field(pattern=f"^({'|'.join(KINDS)})$")
    key: ValidText = Field(max_length=1000)
    value: Annotated[Any, AfterValidator(_json_value)]


class Service:
    """The state that all requests share, and the actions on it.

    Args:
        home: the directory of results.
    """

    def __init__(self, home: Path):
        self.home = home
        self.state = State(home / HOME / STATE_FILE)
        self.folders = Folders(self.state, home / UPLOADS)
        self.runs, self.jobs = Runs(home), Jobs(self.state, home)
        self._estimates: dict[str, Any] = {}
        self._estimating = Lock()

    # ---- runs ----

    def overview(self) -> dict[str, Any]:
        """Runs, banks, lines and folders, for the page."""
        recent = [path for path in self.state.recent_folders() if Path(path).is_dir()]
        return {
            "home": printable(str(self.home)),
            "runs": self.runs.listed(self._last_jobs(), self.state.names()),
            "banks": self.banks(),
            "lines": self.lines(),
            "roots": self.folders.roots(),
            "recent": [{"place": encode_path(path), "name": printable(path)} for path in recent],
        }

    def about(self, run: str) -> dict[str, Any]:
        """Facts about a run.

        Raises:
            NotFoundError: there is none of that name.
        """
        if found := self.runs.about(run, self._last_jobs().get(run)):
            return found | {"name": self.state.names().get(run) or printable(run)}
        raise NotFoundError(f"no inspection is called {printable(run)!r}")

    def log(self, run: str) -> dict[str, str]:
        """The end of the output of a run."""
        job = self._last_jobs().get(run)
        return {"text": self.jobs.log(job["id"]) if job else ""}

    def start(self, wanted: NewInspection) -> dict[str, str]:
        """Adds a run to the queue; returns its name."""
        folder = wanted.folder
        self.folders.require_opened(folder)
        arguments = [f"--config.data.root={folder}"]
        if wanted.bank:
            arguments = ["inspect", str(self._bank(wanted.bank)), *arguments]
        else:
            short = {"backbone": wanted.network, "size": wanted.size, "fit": wanted.fit}
            short |= {"false-alarms": wanted.false_alarms}
            if wanted.answers:
                short["review"] = self.runs.review(wanted.answers)
            arguments = ["detect", *arguments, *(f"--{flag}={value}" for flag, value in short.items() if value)]
        more = more_flags(wanted.more)
        if wanted.roi and wanted.areas:
            raise UserError("areas were drawn, and a file with areas was named; remove one of them")
        run = self._new_run(Path(folder).name or "photos", "-inspected" if wanted.bank else "")
        roi = os.path.expanduser(wanted.roi)  # noqa: PTH111
        if wanted.areas:
            roi = str(self._file_of(run, AREAS))
            write_json(roi, wanted.areas.model_dump())
        arguments += [f"--roi={roi}"] if roi else []
        arguments += ["--config.report.files=page,heatmaps,masks,coco,maps", *more]
        self.state.open_folder(folder, used=True)
        self.jobs.add(arguments[0], run, [*arguments, f"--workdir={self.home / run}"])
        return {"run": run}

    def demo(self) -> dict[str, str]:
        """Draws parts and inspects them; returns the name of the run."""
        run = self._new_run("demo")
        self.jobs.add("detect", run, ["demo", f"--workdir={self.home / run}"])
        return {"run": run}

    def resume(self, run: str) -> None:
        """Starts the last command of a run again, which goes on from its saved state."""
        self.runs.workdir(run)
        self._require_idle(run)
        job = self._last_jobs().get(run)
        if job is None:
            raise UserError(f"{printable(run)!r} was started in a terminal: start the same command again there")
        self.jobs.add(job["kind"], run, job["words"])

    def rename(self, run: str, name: Name) -> None:
        """Gives a run a name; its directory stays."""
        self.runs.workdir(run)
        self.state.name(run, name.strip() or run)

    def delete(self, run: str) -> None:
        """Deletes what a run has written, and everything that the app knows about it."""
        self._require_idle(run)
        self.runs.delete(run)
        self.state.forget(run)
        for directory in (REVIEWS, AREAS):
            self._file_of(run, directory).unlink(missing_ok=True)

    def answers(self, run: str, since: Annotated[int, Interval(ge=0, lt=2**63)] = 0) -> dict[str, Any]:
        """Answers that are newer than a revision."""
        # the revision is read first: an answer that comes in between is sent twice, not lost
        return {"revision": self.state.revision(), "answers": self.state.answers(run, since)}

    def answer(self, run: str, changes: Annotated[list[ChangedAnswer], Body(embed=True, max_length=100_000)]) -> None:
        """Stores answers in a report."""
        self.runs.workdir(run)
        self.state.answer(run, [(one.kind, one.key, one.value) for one in changes])

    def review(self, run: str, text: Annotated[ValidText, Body(embed=True)]) -> None:
        """Applies the answers, the text of a review.json: the run decides again."""
        self._require_idle(run)
        path = self._file_of(run, REVIEWS)
        write_text(path, text)
        self._repeat(run, "review", f"--review={path}")

    def save_bank(self, run: str, name: Name) -> None:
        """Saves a reference bank of a run; it replaces a bank of this run only. Without a name a free one is taken."""
        self._require_idle(run)
        for stem in map(_without_spaces, numbered_names(name.strip() or run)):
            if self._may_save(path := self.home / BANKS / f"{stem}{BANK_SUFFIX}", run):
                break
            if name.strip():
                raise UserError(f"the reference bank {stem!r} is of another inspection; choose another name")
        path.parent.mkdir(exist_ok=True)
        self._repeat(run, "bank", f"--save-bank={path}")

    def _may_save(self, bank: Path, run: str) -> bool:
        """True if no other run is saving the bank, and the bank is new or this run saved it last."""
        savers = self.state.jobs_with("bank", f"--save-bank={bank}")
        if any(job["state"] in UNDER_WAY and job["run"] != run for job in savers):
            return False
        # a job that has failed may have written the bank before
        finished = [job for job in savers if job["state"] == "done"] or savers
        return not bank.exists() or bool(finished and finished[-1]["run"] == run)

    def compare(self, runs: Annotated[tuple[str, str], Body(embed=True)]) -> None:
        """Writes the page on what changed between two runs."""
        pair = [str(self.runs.workdir(run)) for run in runs]
        ended = _child("codegraph_jax", "compare", *pair, f"--workdir={self.home / HOME / COMPARED}")
        if ended.returncode:
            raise UserError((ended.stderr.strip().splitlines() or ["no comparison"])[-1].removeprefix("error: "))

    def estimate(self, wanted: EstimateInput) -> Any:
        """The estimate of a run, computed once in a process of its own."""
        folder = wanted.folder
        self.folders.require_opened(folder)
        arguments = [folder, wanted.network, str(wanted.size or ""), wanted.fit]
        with self._estimating:
            if (known := json.dumps(arguments)) in self._estimates:
                return self._estimates[known]
            if "seconds" in (found := _estimated(arguments)):
                self._estimates[known] = found
            return found

    def _last_jobs(self) -> dict[str, dict[str, Any]]:
        """The last job of each run."""
        return {job["run"]: job for job in self.state.jobs()}

    def _new_run(self, stem: str, suffix: str = "") -> str:
        """Makes the directory of a new run and returns its name; the list shows the name of the photos' folder."""
        title, plain = printable(stem), _without_spaces(printable(stem))
        run = self.runs.free_name(plain + suffix, {*self._last_jobs(), BANKS, LINES, UPLOADS})
        (self.home / run).mkdir()
        self.state.name(run, title + run.removeprefix(plain))
        return run

    def _file_of(self, run: str, directory: str) -> Path:
        """A file of the state that belongs to a run."""
        (self.home / HOME / directory).mkdir(exist_ok=True)
        return self.home / HOME / directory / f"{file_stem(run)}.json"

    def _require_idle(self, run: str) -> None:
        """Refuses to change a run that is under way."""
        if self.about(run)["state"] in UNDER_WAY:
            raise UserError(f"{printable(run)!r} is being computed; wait until it is finished, or cancel it")

    def _repeat(self, run: str, kind: str, *flags: str) -> None:
        """Runs the command of a finished run again in the same directory."""
        arguments = without_flags(self.runs.again(run), *(flag.partition("=")[0].lstrip("-") for flag in flags))
        reviews = [path for path in (self._file_of(run, REVIEWS), self.home / run / REVIEW) if path.is_file()]
        if kind != "review" and reviews:
            flags = (*flags, f"--review={reviews[0]}")
        self.jobs.add(kind, run, [*arguments, *flags, f"--workdir={self.home / run}"])

    # ---- banks and lines ----

    def banks(self) -> list[dict[str, Any]]:
        """Reference banks, newest first."""
        found = []
        with suppress(OSError):
            for path in (self.home / BANKS).glob(f"*{BANK_SUFFIX}"):
                status = path.stat()
                found.append({"bank": path.name, "name": path.stem, "date": status.st_mtime, "bytes": status.st_size})
        return sorted(found, key=lambda bank: bank["date"], reverse=True)

    def delete_bank(self, bank: str) -> None:
        """Deletes a reference bank that no line or inspection uses now."""
        path = self._bank(bank)
        for run, job in self._last_jobs().items():
            if job["state"] in UNDER_WAY and str(path) in job["words"]:
                name = self.state.names().get(run) or run.rpartition("/")[2]
                raise UserError(f"{name!r} uses this reference bank; stop it first")
        path.unlink()

    def lines(self) -> list[dict[str, Any]]:
        """Lines that the app has started, newest first."""
        found = []
        for run, job in self._last_jobs().items():
            if job["kind"] == LINE:
                flags = dict(word.removeprefix("--").partition("=")[::2] for word in job["words"] if "=" in word)
                address = self.jobs.address(job["id"]) if job["state"] == "running" else ""
                found.append(
                    {"line": run, "name": run.rpartition("/")[2], "state": job["state"], "message": job["message"],
                     "address": address, "date": job["created"],
                     "folder": printable(flags.get("config.watch.root", "")),
                     "send": ", ".join(without_secrets(text) for text in flags.get("send", "").split(",") if text)}
                )  # fmt: skip
        return sorted(found, key=lambda line: line["date"], reverse=True)

    def add_line(self, wanted: NewLine) -> dict[str, str]:
        """Starts a new line on a free port of this computer; returns its name."""
        bank = self._bank(wanted.bank)
        arguments = ["serve", str(bank), "--port=0"]
        if folder := wanted.folder:
            self.folders.require_opened(folder)
            arguments.append(f"--config.watch.root={folder}")
        if targets := [text.strip() for text in wanted.send.split(",") if text.strip()]:
            try:
                require_targets(targets)
            except ValueError as error:
                raise UserError(str(error)) from None
            files = [text for text in targets if "://" not in text]
            # the line runs in another directory
            if relative := [text for text in files if not Path(text).expanduser().is_absolute()]:
                raise UserError(f"{relative[0]!r}: give the whole path of the file, such as /results/{relative[0]}")
            arguments.append(f"--send={','.join(targets)}")
        stem, number, taken = f"{LINES}/{file_stem(bank.stem)}", 1, set(self._last_jobs())
        while f"{stem}-{number}" in taken or (self.home / f"{stem}-{number}").exists():
            number += 1
        self.jobs.add(LINE, line := f"{stem}-{number}", [*arguments, f"--workdir={self.home / line}"])
        return {"line": line}

    def line_address(self, name: str) -> str:
        """The address of a line that is ready.

        Raises:
            NotFoundError: there is none of that name, or it does not run.
        """
        job = self._line(name)
        address = self.jobs.address(job["id"]) if job["state"] == "running" else ""
        if not address:
            raise NotFoundError(f"no running line is called {printable(name)!r}")
        return address

    def ledger_of_stopped(self, name: str) -> Path | None:
        """The ledger of a line that does not run; None if it runs, or has none."""
        path = self.home / LINES / name / LEDGER_FILE
        return path if self._line(name)["state"] not in UNDER_WAY and path.is_file() else None

    def change_line(self, name: str, action: Literal["start", "stop"]) -> None:
        """Starts or stops a line."""
        job = self._line(name)
        if action == "stop":
            self.jobs.cancel(job["run"])
        elif job["state"] not in UNDER_WAY:
            self.jobs.add(LINE, job["run"], job["words"])

    def delete_line(self, name: str) -> None:
        """Deletes what a line has recorded, with its photos; the folder that it watches stays."""
        job = self._line(name)
        if job["state"] in UNDER_WAY:
            raise UserError(f"the line {printable(name)!r} is running; stop it first")
        directory = self.home / job["run"]
        try:
            with locked(directory):
                for part in (directory / name for name in WRITTEN):
                    if part.is_symlink():
                        part.unlink()
                    elif part.is_dir():
                        shutil.rmtree(part)
                for file in LEDGER_FILES:
                    (directory / file).unlink(missing_ok=True)
                self.state.forget(job["run"])
            (directory / LOCK).unlink(missing_ok=True)
            with suppress(OSError):
                directory.rmdir()
        except WorkdirError as error:
            raise UserError(str(error).partition("; choose")[0] + "; try again in a moment") from None
        except OSError as error:
            raise UserError(f"{printable(str(directory))}: cannot be deleted ({error.strerror or error})") from None

    def _line(self, name: str) -> dict[str, Any]:
        """The last job of a line."""
        job = self._last_jobs().get(f"{LINES}/{name}")
        if job is None or job["kind"] != LINE:
            raise NotFoundError(f"no line is called {printable(name)!r}")
        return job

    def _bank(self, name: str) -> Path:
        """The file of a bank."""
        if any(bank["bank"] == name for bank in self.banks()):
            return self.home / BANKS / name
        raise NotFoundError(f"no reference bank is called {printable(name)!r}")


def _child(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a module of this package to its end, in at most two minutes."""
    try:
        return subprocess.run(
            [sys.executable, "-m", module, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
            env=child_environment(), encoding="utf-8", errors="replace",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess([], 1, "", str(error))


def _estimated(arguments: Sequence[str]) -> Any:
    try:
        return json.loads(_child("codegraph_jax.app.estimate", *arguments).stdout.splitlines()[-1])
    except (ValueError, IndexError):
        return {}


def _without_spaces(name: str) -> str:
    """A file name for a name that a person reads."""
    return file_stem("_".join(name.split()))


def more_flags(text: str) -> list[str]:
    """Further flags of a run.

    Raises:
        UserError: an argument is not a setting with a value, or the app sets it itself.
    """
    try:
        arguments = shlex.split(text)
    except ValueError as error:
        raise UserError(f"further settings: {error}") from None
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if not name.startswith("--config.") or not equals:
            raise UserError(f"further settings: {argument!r} does not have the form --config.GROUP.NAME=VALUE")
        if name.removeprefix("--config.").startswith(SET_BY_APP):
            raise UserError(f"further settings: {name} is set by the app")
    return arguments
