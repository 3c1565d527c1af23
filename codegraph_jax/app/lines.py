"""The lines of the app: jobs that inspect parts as they arrive, until they are stopped."""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from codegraph_jax.app.banks import Banks
from codegraph_jax.app.folders import FolderInput, Folders, ValidText
from codegraph_jax.app.jobs import LINE, UNDER_WAY, Jobs
from codegraph_jax.app.runs import NotFoundError
from codegraph_jax.app.state import State
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.names import file_stem, printable
from codegraph_jax.core.workdir import LOCK, WorkdirError, locked
from codegraph_jax.line.ledger import ALARMS, LEDGER_FILE, LEDGER_FILES, RECEIVED
from codegraph_jax.line.targets import require_targets, without_secrets

LINES = "lines"
"""Directory below the results."""


class NewLine(FolderInput):
    """A new line, with the folder that it watches and the targets of its results, separated by commas."""

    bank: str
    send: ValidText = Field("", max_length=4000)


class Lines:
    """The lines below a directory of results."""

    def __init__(self, state: State, jobs: Jobs, folders: Folders, banks: Banks, results: Path):
        self.state, self.jobs, self.folders, self.banks, self.results = state, jobs, folders, banks, results

    def listed(self) -> list[dict[str, Any]]:
        """Lines that the app has started, newest first."""
        lines = []
        for run, job in self.state.last_jobs().items():
            if job["kind"] == LINE:
                flags = dict(word.removeprefix("--").partition("=")[::2] for word in job["arguments"] if "=" in word)
                lines.append(
                    {"line": run, "name": run.rpartition("/")[2], "state": job["state"], "message": job["message"],
                     "address": self.jobs.address(job), "date": job["created"],
                     "folder": printable(flags.get("config.watch.root", "")),
                     "send": ", ".join(without_secrets(text) for text in flags.get("send", "").split(",") if text)}
                )  # fmt: skip
        return sorted(lines, key=lambda line: line["date"], reverse=True)

    def add(self, wanted: NewLine) -> dict[str, str]:
        """Starts a new line on a free port of this computer; returns its name."""
        bank = self.banks.path(wanted.bank)
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
        stem, number, taken = f"{LINES}/{file_stem(bank.stem)}", 1, set(self.state.last_jobs())
        while f"{stem}-{number}" in taken or (self.results / f"{stem}-{number}").exists():
            number += 1
        self.jobs.add(LINE, line := f"{stem}-{number}", [*arguments, f"--workdir={self.results / line}"])
        return {"line": line}

    def address(self, name: str) -> str:
        """The address of a line that is ready.

        Raises:
            NotFoundError: there is none of that name, or it does not run.
        """
        if address := self.jobs.address(self._job(name)):
            return address
        raise NotFoundError(f"no running line is called {printable(name)!r}")

    def ledger_of_stopped(self, name: str) -> Path | None:
        """The ledger of a line that does not run; None if it runs, or has none."""
        path = self.results / LINES / name / LEDGER_FILE
        return path if self._job(name)["state"] not in UNDER_WAY and path.is_file() else None

    def change(self, name: str, action: Literal["start", "stop"]) -> None:
        """Starts or stops a line."""
        job = self._job(name)
        if action == "stop":
            self.jobs.cancel(job["run"])
        elif job["state"] not in UNDER_WAY:
            self.jobs.add(LINE, job["run"], job["arguments"])

    def delete(self, name: str) -> None:
        """Deletes what a line has recorded, with its photos; the folder that it watches stays."""
        job = self._job(name)
        if job["state"] in UNDER_WAY:
            raise UserError(f"the line {printable(name)!r} is running; stop it first")
        directory = self.results / job["run"]
        try:
            with locked(directory):
                for folder in (directory / ALARMS, directory / RECEIVED):
                    if folder.is_symlink():
                        folder.unlink()
                    elif folder.is_dir():
                        shutil.rmtree(folder)
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

    def _job(self, name: str) -> dict[str, Any]:
        """The last job of a line."""
        job = self.state.last_jobs().get(f"{LINES}/{name}")
        if job is None or job["kind"] != LINE:
            raise NotFoundError(f"no line is called {printable(name)!r}")
        return job
