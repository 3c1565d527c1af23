"""The actions on runs: starting, repeating, answering, comparing. `app.server` has the routes."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, Literal

from annotated_types import Interval
from fastapi import Body
from pydantic import AfterValidator, BaseModel, Field

from codegraph_jax.app.banks import BANKS, Banks
from codegraph_jax.app.folders import FolderInput, Folders, Name, ValidText, encode_path
from codegraph_jax.app.jobs import UNDER_WAY, Jobs, child_environment
from codegraph_jax.app.lines import LINES, Lines
from codegraph_jax.app.runs import Runs, without_spaces
from codegraph_jax.app.state import ANSWER_KINDS, STATE_DIRECTORY, STATE_FILE, State
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.files import write_json, write_text
from codegraph_jax.core.names import file_stem, printable
from codegraph_jax.core.started_command import without_flags
from codegraph_jax.core.workdir import REVIEW

UPLOADS = "uploads"
"""Directory below the results."""
COMPARED, REVIEWS, AREAS = "compared", "reviews", "areas"
"""Directories of the state: the page of the last comparison; answers and excluded areas, a file for each run."""
SET_BY_APP = ("review", "data.root", "data.add", "bank.")
"""Beginnings of settings that the app sets itself."""


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
    """A new inspection; `answers_of` names a run whose answers are applied, `flags` are further settings."""

    bank: str = ""
    answers_of: str = ""
    false_alarms: Literal["", "low", "normal", "high"] = ""
    roi: ValidText = Field("", max_length=4096)
    areas: Areas | None = None
    flags: ValidText = Field("", max_length=4000)


class ChangedAnswer(BaseModel):
    """An answer in a report; None removes it."""

    kind: str = Field(pattern=f"^({'|'.join(ANSWER_KINDS)})$")
    key: ValidText = Field(max_length=1000)
    value: Annotated[Any, AfterValidator(_json_value)]


class Service:
    """The state that all requests share, and the actions on it.

    Args:
        results: the directory of results.
    """

    def __init__(self, results: Path):
        self.results = results
        self.state = State(results / STATE_DIRECTORY / STATE_FILE)
        self.folders = Folders(self.state, results / UPLOADS)
        self.runs, self.jobs = Runs(self.state, results), Jobs(self.state, results)
        self.banks = Banks(self.state, results)
        self.lines = Lines(self.state, self.jobs, self.folders, self.banks, results)
        self._estimates: dict[str, Any] = {}
        self._estimating = Lock()

    def overview(self) -> dict[str, Any]:
        """Runs, banks, lines and folders, for the page."""
        recent = [path for path in self.state.recent_folders() if Path(path).is_dir()]
        return {
            "results": printable(str(self.results)),
            "runs": self.runs.listed(),
            "banks": self.banks.listed(),
            "lines": self.lines.listed(),
            "roots": self.folders.roots(),
            "recent": [{"place": encode_path(path), "name": printable(path)} for path in recent],
        }

    def log(self, run: str) -> dict[str, str]:
        """The end of the output of a run."""
        job = self.state.last_jobs().get(run)
        return {"text": self.jobs.log(job["id"]) if job else ""}

    def start(self, wanted: NewInspection) -> dict[str, str]:
        """Adds a run to the queue; returns its name."""
        folder = wanted.folder
        self.folders.require_opened(folder)
        arguments = [f"--config.data.root={folder}"]
        if wanted.bank:
            arguments = ["inspect", str(self.banks.path(wanted.bank)), *arguments]
        else:
            short = {"backbone": wanted.network, "size": wanted.size, "fit": wanted.fit}
            short |= {"false-alarms": wanted.false_alarms}
            if wanted.answers_of:
                short["review"] = self.runs.review(wanted.answers_of)
            arguments = ["detect", *arguments, *(f"--{flag}={value}" for flag, value in short.items() if value)]
        further = further_flags(wanted.flags)
        if wanted.roi and wanted.areas:
            raise UserError("areas were drawn, and a file with areas was named; remove one of them")
        run = self._new_run(Path(folder).name or "photos", "-inspected" if wanted.bank else "")
        roi = os.path.expanduser(wanted.roi)  # noqa: PTH111
        if wanted.areas:
            roi = str(self._file_of(run, AREAS))
            write_json(roi, wanted.areas.model_dump())
        arguments += [f"--roi={roi}"] if roi else []
        arguments += ["--config.report.files=page,heatmaps,masks,coco,maps", *further]
        self.state.remember_folder(folder, inspected=True)
        self.jobs.add(arguments[0], run, [*arguments, f"--workdir={self.results / run}"])
        return {"run": run}

    def demo(self) -> dict[str, str]:
        """Draws parts and inspects them; returns the name of the run."""
        run = self._new_run("demo")
        self.jobs.add("detect", run, ["demo", f"--workdir={self.results / run}"])
        return {"run": run}

    def resume(self, run: str) -> None:
        """Starts the last command of a run again, which resumes from its saved state."""
        self._require_idle(run)
        job = self.state.last_jobs().get(run)
        if job is None:
            raise UserError(f"{printable(run)!r} was started in a terminal: start the same command again there")
        self.jobs.add(job["kind"], run, job["arguments"])

    def rename(self, run: str, name: Name) -> None:
        """Gives a run a name; its directory stays."""
        self.runs.workdir(run)
        self.state.set_name(run, name.strip() or run)

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
        self.state.store_answers(run, [(one.kind, one.key, one.value) for one in changes])

    def review(self, run: str, text: Annotated[ValidText, Body(embed=True)]) -> None:
        """Repeats the command of a run with answers, which are the text of a review.json."""
        self._require_idle(run)
        path = self._file_of(run, REVIEWS)
        write_text(path, text)
        self._repeat(run, "review", f"--review={path}")

    def save_bank(self, run: str, name: Name) -> None:
        """Saves a reference bank of a run; it replaces a bank of this run only. Without a name a free one is taken."""
        self._require_idle(run)
        self._repeat(run, "bank", f"--save-bank={self.banks.new_path(run, name.strip())}")

    def compare(self, runs: Annotated[tuple[str, str], Body(embed=True)]) -> None:
        """Writes the page on what changed between two runs."""
        pair = [str(self.runs.workdir(run)) for run in runs]
        ended = _run_module("codegraph_jax", "compare", *pair, f"--workdir={self.results / STATE_DIRECTORY / COMPARED}")
        if ended.returncode:
            raise UserError((ended.stderr.strip().splitlines() or ["no comparison"])[-1].removeprefix("error: "))

    def estimate(self, wanted: EstimateInput) -> Any:
        """The estimate of a run, computed once in a process of its own."""
        folder = wanted.folder
        self.folders.require_opened(folder)
        arguments = [folder, wanted.network, str(wanted.size or ""), wanted.fit]
        with self._estimating:
            if (key := json.dumps(arguments)) in self._estimates:
                return self._estimates[key]
            if "seconds" in (estimate := _run_estimate(arguments)):
                self._estimates[key] = estimate
            return estimate

    def _new_run(self, stem: str, suffix: str = "") -> str:
        """Makes the directory of a new run and returns its name; the list shows the name of the photos' folder."""
        title, plain = printable(stem), without_spaces(printable(stem))
        run = self.runs.free_name(plain + suffix, {*self.state.last_jobs(), BANKS, LINES, UPLOADS})
        (self.results / run).mkdir()
        self.state.set_name(run, title + run.removeprefix(plain))
        return run

    def _file_of(self, run: str, directory: str) -> Path:
        """A file of the state that belongs to a run."""
        (self.results / STATE_DIRECTORY / directory).mkdir(exist_ok=True)
        return self.results / STATE_DIRECTORY / directory / f"{file_stem(run)}.json"

    def _require_idle(self, run: str) -> None:
        """Refuses to change a run that is under way."""
        if self.runs.facts(run)["state"] in UNDER_WAY:
            raise UserError(f"{printable(run)!r} is being computed; wait until it is finished, or cancel it")

    def _repeat(self, run: str, kind: str, *flags: str) -> None:
        """Runs the command of a finished run again in the same directory."""
        arguments = without_flags(
            self.runs.repeatable_arguments(run), *(flag.partition("=")[0].lstrip("-") for flag in flags)
        )
        reviews = [path for path in (self._file_of(run, REVIEWS), self.results / run / REVIEW) if path.is_file()]
        if kind != "review" and reviews:
            flags = (*flags, f"--review={reviews[0]}")
        self.jobs.add(kind, run, [*arguments, *flags, f"--workdir={self.results / run}"])


def _run_module(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a module of this package to its end, in at most two minutes."""
    try:
        return subprocess.run(
            [sys.executable, "-m", module, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
            env=child_environment(), encoding="utf-8", errors="replace",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess([], 1, "", str(error))


def _run_estimate(arguments: Sequence[str]) -> Any:
    try:
        return json.loads(_run_module("codegraph_jax.app.estimate", *arguments).stdout.splitlines()[-1])
    except (ValueError, IndexError):
        return {}


def further_flags(text: str) -> list[str]:
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
