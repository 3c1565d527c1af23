"""Runs on disk: those of the app and those of commands in a terminal, in one list."""

import os
import shlex
import shutil
import tempfile
import zipfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import psutil

from codegraph_jax.app.jobs import UNDER_WAY
from codegraph_jax.app.state import State
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.file_ownership import remove_written, written_files
from codegraph_jax.core.files import read_json
from codegraph_jax.core.names import file_stem, numbered_names, printable
from codegraph_jax.core.progress import PROGRESS_FILE
from codegraph_jax.core.started_command import without_flags
from codegraph_jax.core.user_code import is_user_code
from codegraph_jax.core.workdir import LOCK, RESUME, REVIEW, locked
from codegraph_jax.line.ledger import LEDGER_FILES
from codegraph_jax.report.archive import EARLIER
from codegraph_jax.report.result_files import GROUPS, MANIFEST, REPORT, SCORES, heatmap_of

REPORT_SECONDS = 0.06
"""Approximate time per photo of writing the results."""
FLAGS = ("backbone", "size", "fit", "false-alarms", "threshold", "roi", "good", "save-bank", "csv", "exit-code")
"""Flags of commands that the app can repeat, besides `--config.GROUP.NAME`."""
CODE_FLAGS = ("backbone", "backbone.name", "scoring.score")
"""Flags whose value can be FILE.py:NAME or MODULE:NAME."""
LEFT_OVER = (*LEDGER_FILES, REVIEW, PROGRESS_FILE)
"""Files of a run that `written_files` does not list."""


class NotFoundError(UserError):
    """A run, line, bank or file that does not exist."""


class Runs:
    """The directories of runs below a directory of results."""

    def __init__(self, state: State, results: Path):
        self.state, self.results = state, results
        self._cache: dict[tuple[str, str], tuple[tuple[int, int], Any]] = {}

    def workdir(self, run: str) -> Path:
        """The directory of a run.

        Raises:
            NotFoundError: there is none of that name directly below the results.
        """
        if run and run[0] != "." and not set(run) & set("/\\\0"):
            workdir = self.results / run
            with suppress(OSError):
                if workdir.is_dir() and workdir.resolve().parent == self.results.resolve():
                    return workdir
        raise NotFoundError(f"no inspection is called {printable(run)!r}")

    def free_name(self, stem: str, taken: Collection[str]) -> str:
        """The name of a new run: the stem, or the stem with a number."""
        return next(
            name for name in numbered_names(stem) if name not in taken and not os.path.lexists(self.results / name)
        )

    def listed(self) -> list[dict[str, Any]]:
        """Facts about all runs, newest first."""
        runs, jobs, names = [], self.state.last_jobs(), self.state.names()
        with suppress(OSError), os.scandir(self.results) as entries:
            for entry in entries:
                with suppress(NotFoundError, OSError, UnicodeEncodeError):
                    entry.name.encode()  # a name that is not valid text cannot be part of an address
                    if facts := self._facts(entry.name, jobs, names):
                        runs.append(facts)
        return sorted(runs, key=lambda run: run["date"], reverse=True)

    def facts(self, run: str) -> dict[str, Any]:
        """Facts about a run.

        Raises:
            NotFoundError: there is none of that name.
        """
        if facts := self._facts(run, self.state.last_jobs(), self.state.names()):
            return facts
        raise NotFoundError(f"no inspection is called {printable(run)!r}")

    def _facts(
        self, run: str, jobs: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """Facts about a run; None for a directory of something else.

        Args:
            run: the run.
            jobs: the last job of each run.
            names: names that the user has given.
        """
        workdir, job = self.workdir(run), jobs.get(run)
        manifest = self.manifest(run)
        progress = self._json(run, PROGRESS_FILE)
        if manifest is None and job is None and progress is None and not (workdir / RESUME).is_dir():
            return None
        state, message = self._state(workdir, manifest, progress, job)
        facts = {
            "run": run, "name": names.get(run) or printable(run), "state": state, "message": message,
            "task": job["kind"] if job else "detect",
            "job": job["kind"] if job else "",  # empty: started in a terminal
            "date": _changed(workdir / MANIFEST) or (job["created"] if job else _changed(workdir)),
        }  # fmt: skip
        facts["begun"] = job["begun"] if job else facts["date"]
        if state == "running" and progress:
            facts["progress"] = progress | {"left": _seconds_left(progress)}
        if manifest:
            facts |= self._results(run, manifest)
        return facts

    def _state(
        self,
        workdir: Path,
        manifest: Mapping[str, Any] | None,
        progress: Mapping[str, Any] | None,
        job: Mapping[str, Any] | None,
    ) -> tuple[str, str]:
        if job and job["state"] in UNDER_WAY:
            return str(job["state"]), ""
        if progress and _is_running(progress, _changed(workdir / PROGRESS_FILE)):
            return "running", ""
        if manifest:
            return "finished", job["message"] if job and job["state"] == "failed" else ""
        return (job["state"], job["message"]) if job and job["state"] != "done" else ("interrupted", "")

    def _results(self, run: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Facts about the results of a finished run."""
        config = manifest.get("config") or {}
        root = str((config.get("data") or {}).get("root") or "")
        thresholds = manifest.get("thresholds") or {}
        verdicts = [record.get("verdict") for record in self.scores(run)]
        return {
            "task": config.get("task", "detect"),
            "folder": printable(root),
            "photos": sum((manifest.get("image_counts") or {}).values()),
            "flagged": sum(one.get("flagged_count", 0) for one in thresholds.values()),
            "to_check": verdicts.count("check"),
            "report": REPORT in written_files(self.workdir(run)),
            "answers": (self.workdir(run) / REVIEW).is_file(),
            "groups": self.groups(run),
        }

    def manifest(self, run: str) -> dict[str, Any] | None:
        """The manifest of a finished run."""
        found = self._json(run, MANIFEST)
        return found if isinstance(found, dict) else None

    def scores(self, run: str) -> list[dict[str, Any]]:
        """The photos of a run (scores.json)."""
        found = self._json(run, SCORES)
        return [record for record in found if isinstance(record, dict)] if isinstance(found, list) else []

    def groups(self, run: str) -> list[dict[str, Any]]:
        """Name, verdict and number of photos of each recurring group of a run."""
        found = self._json(run, GROUPS)
        entries = [entry for one in found.values() for entry in one] if isinstance(found, dict) else []
        return [
            {"name": printable(str(entry.get("name") or "")), "verdict": entry.get("verdict"),
             "photos": len(entry.get("members") or [])} for entry in entries if isinstance(entry, dict)
        ]  # fmt: skip

    def review(self, run: str) -> Path:
        """The file with the answers that a run has applied.

        Raises:
            UserError: it has applied none.
        """
        if (path := self.workdir(run) / REVIEW).is_file():
            return path
        raise UserError(f"the inspection {printable(run)!r} has applied no answers; answer in its report first")

    def file(self, run: str, name: str) -> Path:
        """A file that the run has written.

        Raises:
            NotFoundError: the run has not listed it, or it leads out of the run's directory.
        """
        workdir = self.workdir(run)
        if os.path.normpath(name) in written_files(workdir):
            with suppress(OSError):
                real = (workdir / name).resolve(strict=True)
                if real.is_relative_to(workdir.resolve()) and real.is_file():
                    return real
        raise NotFoundError(f"the inspection {printable(run)!r} has no file {printable(name)!r}")

    def thumbnail(self, run: str) -> Path:
        """The heat map of the most unusual photo, or of any other.

        Raises:
            NotFoundError: the run has none.
        """
        maps = sorted(name for name in written_files(self.workdir(run)) if Path(name).parts[0] == "heatmaps")
        for record in sorted(self.scores(run), key=lambda record: record.get("rank", 0))[:1]:
            found = heatmap_of(self.workdir(run), str(record.get("category")), str(record.get("path")))
            maps = [str(found), *maps] if found else maps
        if not maps:
            raise NotFoundError(f"the inspection {printable(run)!r} has no heat map")
        return self.file(run, maps[0])

    def masks(self, run: str) -> IO[bytes]:
        """A ZIP file of the masks of a run."""
        target = tempfile.TemporaryFile()  # noqa: SIM115  (the response closes it)
        with zipfile.ZipFile(target, "w") as archive:
            for name in sorted(written_files(self.workdir(run))):
                if Path(name).parts[0] == "masks":
                    with suppress(NotFoundError):
                        archive.write(self.file(run, name), name.encode("utf-8", "replace").decode())
        target.seek(0)
        return target

    def repeatable_arguments(self, run: str) -> list[str]:
        """The arguments of the command that made a run, without its review.

        Raises:
            UserError: the run was made in another way. A config file, or a network or score of the user's own, is never
                run again, since manifest.json is data and must not name code.
        """
        arguments = shlex.split(str((self.manifest(run) or {}).get("command") or ""))
        kept = without_flags(arguments[1:], "review", "workdir", "out")
        names = [argument.partition("=")[0].lstrip("-") for argument in kept if argument.startswith("-")]
        is_known = all(name.startswith("config.") or name.replace("_", "-") in FLAGS for name in names)
        if is_known and not _names_code(kept) and arguments[:1] == ["codegraph"] and kept[:1] in (["detect"], ["demo"]):
            return kept
        raise UserError(
            f"the inspection {printable(run)!r} was made by a command that the app cannot repeat; start it in a "
            "terminal or start a new inspection"
        )

    def delete(self, run: str) -> None:
        """Deletes the files that a run has written, and its directory if nothing else is in it.

        Raises:
            WorkdirError: the run is under way.
        """
        workdir = self.workdir(run)
        with locked(workdir):
            remove_written(workdir)
            shutil.rmtree(workdir / RESUME, ignore_errors=True)
            with suppress(OSError):
                for earlier in (workdir / EARLIER).iterdir():
                    remove_written(earlier)
                (workdir / EARLIER).rmdir()
            for name in LEFT_OVER:
                (workdir / name).unlink(missing_ok=True)
        with suppress(OSError):
            # after the block, since Windows deletes no open file; a run that starts now has locked the directory too
            (workdir / LOCK).unlink(missing_ok=True)
            workdir.rmdir()

    def _json(self, run: str, name: str) -> Any:
        """A JSON file of a run, parsed once; None if it is missing or damaged."""
        path = self.workdir(run) / name
        try:
            status = path.stat()
            stamp, known = (status.st_mtime_ns, status.st_size), self._cache.get((run, name))
            if known and known[0] == stamp:
                return known[1]
            found = read_json(path)
        except (OSError, ValueError):
            return None
        self._cache[run, name] = stamp, found
        return found


def without_spaces(name: str) -> str:
    """A name that a person has typed, as a file name without spaces."""
    return file_stem("_".join(name.split()))


def _names_code(arguments: list[str]) -> bool:
    """Whether a flag (`--flag=VALUE` or `--flag VALUE`) names a Python file or module of the user."""
    for argument, following in zip(arguments, [*arguments[1:], ""]):
        name, equals, value = argument.lstrip("-").partition("=")
        if name.removeprefix("config.") in CODE_FLAGS and is_user_code(value if equals else following):
            return True
    return False


def _changed(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _is_running(progress: Mapping[str, Any], written: float | None) -> bool:
    """Whether the process that wrote a progress file is still running; another process may have got its number."""
    with suppress(psutil.Error, ValueError, TypeError, KeyError):
        process = psutil.Process(progress["pid"])
        return process.create_time() <= (written or 0.0) and process.status() != psutil.STATUS_ZOMBIE
    return False


def _seconds_left(progress: Mapping[str, Any]) -> float | None:
    """Estimated seconds to the end of a run; None if nothing is known yet."""
    with suppress(KeyError, TypeError, ZeroDivisionError):
        stage, done, total = progress["stage"], progress["done"], progress["total"]
        estimate = progress.get("estimate") or {}
        left = progress["seconds"] / done * (total - done)
        if stage == "network":
            left += estimate.get("distances", 0.0) + REPORT_SECONDS * total
        return float(left)
    return None
