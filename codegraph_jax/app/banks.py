"""The reference banks of the app."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from codegraph_jax.app.jobs import UNDER_WAY
from codegraph_jax.app.runs import NotFoundError, without_spaces
from codegraph_jax.app.state import State
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.names import numbered_names, printable
from codegraph_jax.tasks.paths import BANK_SUFFIX

BANKS = "banks"
"""Directory below the results."""


class Banks:
    """The files of reference banks below a directory of results."""

    def __init__(self, state: State, results: Path):
        self.state, self.directory = state, results / BANKS

    def listed(self) -> list[dict[str, Any]]:
        """Reference banks, newest first."""
        found = []
        with suppress(OSError):
            for path in self.directory.glob(f"*{BANK_SUFFIX}"):
                status = path.stat()
                found.append({"bank": path.name, "name": path.stem, "date": status.st_mtime, "bytes": status.st_size})
        return sorted(found, key=lambda bank: bank["date"], reverse=True)

    def path(self, bank: str) -> Path:
        """The file of a bank.

        Raises:
            NotFoundError: there is none of that name.
        """
        if any(one["bank"] == bank for one in self.listed()):
            return self.directory / bank
        raise NotFoundError(f"no reference bank is called {printable(bank)!r}")

    def new_path(self, run: str, name: str) -> Path:
        """The file for the bank of a run; if `name` is empty, it is named after the run.

        Raises:
            UserError: the bank of that name belongs to another run.
        """
        self.directory.mkdir(exist_ok=True)
        for stem in map(without_spaces, numbered_names(name or run)):
            if self._may_save(path := self.directory / f"{stem}{BANK_SUFFIX}", run):
                return path
            if name:
                break
        raise UserError(f"the reference bank {stem!r} belongs to another inspection; choose another name")

    def delete(self, bank: str) -> None:
        """Deletes a reference bank that no line or inspection uses now."""
        path = self.path(bank)
        for run, job in self.state.last_jobs().items():
            if job["state"] in UNDER_WAY and str(path) in job["arguments"]:
                name = self.state.names().get(run) or run.rpartition("/")[2]
                raise UserError(f"{name!r} uses this reference bank; stop it first")
        path.unlink()

    def _may_save(self, bank: Path, run: str) -> bool:
        """True if no other run is saving the bank, and the bank is new or this run saved it last."""
        savers = self.state.jobs_with("bank", f"--save-bank={bank}")
        if any(job["state"] in UNDER_WAY and job["run"] != run for job in savers):
            return False
        # a job that has failed may have written the bank before
        finished = [job for job in savers if job["state"] == "done"] or savers
        return not bank.exists() or bool(finished and finished[-1]["run"] == run)
