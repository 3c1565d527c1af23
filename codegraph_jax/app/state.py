"""The app's own state in SQLite: opened folders, names of runs, answers, and the processes that it has started."""

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from threading import RLock
from typing import Any

from codegraph_jax.core.errors import UserError

STATE_DIRECTORY, STATE_FILE = ".app", "app.sqlite"
"""Directory below the results with the state and the logs, and the file of the state."""
VERSION = 1
"""Version in the header of the file; raised with every change of the tables."""
MAX_RECENT = 12
SCHEMA = """
CREATE TABLE IF NOT EXISTS folders (path TEXT PRIMARY KEY, opened REAL NOT NULL, inspected INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS names (run TEXT PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
    run TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, revision INTEGER NOT NULL,
    PRIMARY KEY (run, kind, key)
);
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, run TEXT NOT NULL, arguments TEXT NOT NULL,
    state TEXT NOT NULL, message TEXT NOT NULL DEFAULT '', pid INTEGER NOT NULL DEFAULT 0, born REAL NOT NULL DEFAULT 0,
    created REAL NOT NULL, ended REAL
);
"""
ANSWER_KINDS = ("photo", "group", "threshold", "share")
"""Kinds of answers: about a photo, about a group, a threshold set by hand, and the limit on defective photos."""


class State:
    """The state of one directory of results; thread-safe.

    Args:
        path: path of the file, which is created if it is missing.

    Raises:
        UserError: the file was written by another version, or is not a database.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = RLock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        try:
            self._require_version()
            self._connection.execute("PRAGMA journal_mode = WAL")
            # before the tables, so that a start that was killed in between leaves a file that the next one accepts
            self._connection.execute(f"PRAGMA user_version = {VERSION}")
            self._connection.executescript(SCHEMA)
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise UserError(
                f"{path}: cannot be used ({error}); move it away, and the app starts without the names of runs, "
                "answers and folders in it"
            ) from None

    def _require_version(self) -> None:
        version, tables = (
            self._connection.execute(query).fetchone()[0]
            for query in ("PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
        )
        if tables and version != VERSION:
            raise sqlite3.DatabaseError("was written by another version of this program")

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()

    def _execute(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        """The rows of a statement; empty unless it is a query."""
        with self._lock:
            return [dict(row) for row in self._connection.execute(statement, values)]

    # ---- folders; paths are stored as file names in the system's encoding, which need not be valid text ----

    def remember_folder(self, path: str, inspected: bool = False) -> None:
        """Remembers a folder that the user has opened, and whether it was inspected."""
        self._execute(
            "INSERT INTO folders VALUES (CAST(? AS BLOB), ?, ?) ON CONFLICT (path) "
            "DO UPDATE SET opened = excluded.opened, inspected = max(inspected, excluded.inspected)",
            path.encode("utf-8", "surrogateescape"), time.time(), int(inspected),
        )  # fmt: skip

    def folders(self) -> list[str]:
        """All folders that the user has opened, the last one first."""
        return self._paths(self._execute("SELECT path FROM folders ORDER BY opened DESC"))

    def recent_folders(self) -> list[str]:
        """The folders that were inspected last."""
        return self._paths(
            self._execute("SELECT path FROM folders WHERE inspected ORDER BY opened DESC LIMIT ?", MAX_RECENT)
        )

    @staticmethod
    def _paths(rows: Iterable[Mapping[str, Any]]) -> list[str]:
        return [bytes(row["path"]).decode("utf-8", "surrogateescape") for row in rows]

    # ---- names ----

    def set_name(self, run: str, name: str) -> None:
        """Gives a run a name; its directory stays."""
        self._execute("INSERT OR REPLACE INTO names VALUES (?, ?)", run, name)

    def names(self) -> dict[str, str]:
        """Names by run."""
        return {row["run"]: row["name"] for row in self._execute("SELECT run, name FROM names")}

    def forget(self, run: str) -> None:
        """Removes everything about a run."""
        for table in ("names", "answers", "jobs"):
            self._execute(f"DELETE FROM {table} WHERE run = ?", run)

    # ---- answers ----

    def store_answers(self, run: str, changes: Iterable[tuple[str, str, Any]]) -> None:
        """Stores answers: (kind, key, value)."""
        with self._lock:
            revision = self.revision() + 1
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)",
                [(run, kind, key, json.dumps(value), revision) for kind, key, value in changes],
            )
            self._connection.execute("COMMIT")

    def answers(self, run: str, since: int = 0) -> list[dict[str, Any]]:
        """Answers of a run that are newer than a revision."""
        rows = self._execute(
            "SELECT kind, key, value FROM answers WHERE run = ? AND revision > ? ORDER BY revision", run, since
        )
        return [row | {"value": json.loads(row["value"])} for row in rows]

    def revision(self) -> int:
        """Number of the last change of the answers."""
        return int(self._execute("SELECT coalesce(max(revision), 0) AS last FROM answers")[0]["last"])

    # ---- jobs ----

    def add_job(self, kind: str, run: str, arguments: Sequence[str]) -> int:
        """Adds a job that waits; returns its number."""
        with self._lock:
            values = kind, run, json.dumps([*arguments]), time.time()
            self._execute(
                "INSERT INTO jobs (kind, run, arguments, state, created) VALUES (?, ?, ?, 'waiting', ?)", *values
            )
            return int(self._execute("SELECT last_insert_rowid() AS id")[0]["id"])

    def jobs_with(self, kind: str, argument: str) -> list[dict[str, Any]]:
        """All jobs of a kind with this argument in their command, oldest first."""
        rows = self._jobs("SELECT * FROM jobs WHERE kind = ? ORDER BY id", kind)
        return [row for row in rows if argument in row["arguments"]]

    def change_job(self, job: int, **columns: Any) -> None:
        """Changes columns of a job."""
        assigned = ", ".join(f"{column} = ?" for column in columns)
        self._execute(f"UPDATE jobs SET {assigned} WHERE id = ?", *columns.values(), job)

    def jobs(self, *states: str) -> list[dict[str, Any]]:
        """Jobs in one of these states, oldest first."""
        marks = ", ".join("?" * len(states))
        return self._jobs(f"SELECT * FROM jobs WHERE state IN ({marks}) ORDER BY id", *states)

    def last_jobs(self) -> dict[str, dict[str, Any]]:
        """The last job of each run, with the time of the first as `begun`; the oldest first."""
        rows = self._jobs(
            "SELECT jobs.*, begun FROM jobs "
            "JOIN (SELECT max(id) AS last, min(created) AS begun FROM jobs GROUP BY run) ON id = last ORDER BY id"
        )
        return {row["run"]: row for row in rows}

    def _jobs(self, query: str, *values: Any) -> list[dict[str, Any]]:
        return [row | {"arguments": json.loads(row["arguments"])} for row in self._execute(query, *values)]
