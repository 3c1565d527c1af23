"""What a line has judged, in one SQLite file: a row for each part, alarms, and what the monitors know.

A part's row, the alarms that it raised and what the monitors have learnt of it are one transaction: after a crash
either all of it is there or nothing is, and then the part is judged again. The file is in WAL mode, so that others may
read while a line writes; it is synchronised with the disk at every part, so that a power cut loses none.
"""

import csv
import io
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from codegraph_jax.core.errors import UserError
from codegraph_jax.core.files import whole_file
from codegraph_jax.core.names import shown
from codegraph_jax.line.part import Alarm, Part

FILE = "line.sqlite"
"""Name of a ledger in a workdir."""
APPLICATION, VERSION = 0x436F4447, 1
"""What the header of the file says of itself."""
WAIT_SECONDS = 10.0
"""How long a write waits for somebody else's lock before it gives up; the caller tries again."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS parts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    path TEXT NOT NULL,
    received TEXT NOT NULL,
    judged TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('judged', 'failed')),
    reason TEXT NOT NULL DEFAULT '',
    bank TEXT NOT NULL DEFAULT '',
    score REAL, p_value REAL, threshold REAL, flagged INTEGER,
    width INTEGER, height INTEGER,
    peak TEXT NOT NULL DEFAULT '[]',
    shows TEXT NOT NULL DEFAULT '[]',
    regions TEXT NOT NULL DEFAULT '[]',
    statistics TEXT NOT NULL DEFAULT '{}',
    seconds REAL,
    layer BLOB
);
CREATE INDEX IF NOT EXISTS verdicts ON parts (status, flagged);
CREATE TABLE IF NOT EXISTS alarms (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    part INTEGER NOT NULL REFERENCES parts (id),
    raised TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    message TEXT NOT NULL,
    parts TEXT NOT NULL DEFAULT '[]'
);
CREATE TABLE IF NOT EXISTS acknowledged (
    alarm INTEGER PRIMARY KEY REFERENCES alarms (id),
    reason TEXT NOT NULL,
    moment TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS standouts (
    part INTEGER PRIMARY KEY REFERENCES parts (id),
    vectors BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS inbox (key TEXT PRIMARY KEY, name TEXT NOT NULL, path TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS monitors (name TEXT PRIMARY KEY, state TEXT NOT NULL);
"""
ALARMS = "(SELECT alarms.*, coalesce(reason, '') AS reason FROM alarms LEFT JOIN acknowledged ON alarm = alarms.id)"
"""Alarms, each with the reason that a person has given."""
COLUMNS = (
    "id", "key", "name", "path", "received", "judged", "status", "reason", "bank", "score", "p_value", "threshold",
    "flagged", "width", "height", "shows", "seconds",
)  # fmt: skip
"""Of parts.csv."""


class LedgerError(UserError):
    """A file that is no ledger, or one that cannot be opened."""


class LedgerUnavailable(UserError):
    """The ledger cannot be written now: somebody holds it, or the disk is full. Nothing of the part is recorded."""


class Ledger:
    """The ledger of one line; safe to use from several threads, each of which gets a connection of its own.

    Args:
        path: of the file, made where it is missing.

    Raises:
        LedgerError: it is something else, or cannot be opened.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._threads = threading.local()
        self._writing = threading.Lock()
        self._open: list[sqlite3.Connection] = []
        try:
            connection = self._connection
            application, version = (
                connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
            )
            empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if not empty and application != APPLICATION:
                raise LedgerError(f"{self.path}: is no ledger of a line; choose another place")
            if version > VERSION:
                raise LedgerError(f"{self.path}: was written by a later version of this program")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(SCHEMA)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        except sqlite3.Error as error:
            raise LedgerError(f"{self.path}: cannot be opened as the ledger of a line ({error})") from None

    def find(self, key: str) -> Part | None:
        """The part of this key, if it has been recorded."""
        rows = self._select("SELECT * FROM parts WHERE key = ?", (_stored(key),))
        return rows[0] if rows else None

    def get(self, part: int) -> Part | None:
        """The part of this number."""
        rows = self._select("SELECT * FROM parts WHERE id = ?", (part,))
        return rows[0] if rows else None

    def latest(self, count: int, before: int = 0, flagged: bool = False) -> list[Part]:
        """The last parts, the newest first.

        Args:
            count: how many at most.
            before: only those of a lower number; 0: of any.
            flagged: only those that are flagged.
        """
        where = "WHERE (? = 0 OR id < ?)" + (" AND flagged = 1" if flagged else "")
        return self._select(f"SELECT * FROM parts {where} ORDER BY id DESC LIMIT ?", (before, before, count))

    def count(self) -> dict[str, int]:
        """How many parts there are: `judged`, `failed`, and `flagged` among the judged ones."""
        query = "SELECT count(*), coalesce(sum(status = 'failed'), 0), coalesce(sum(flagged), 0) FROM parts"
        (row,) = self._read(query)
        return {"judged": row[0] - row[1], "failed": row[1], "flagged": row[2]}

    def alarms(self, count: int, before: int = 0) -> list[Alarm]:
        """The last alarms, the newest first; arguments as for `latest`."""
        rows = self._read(
            f"SELECT * FROM {ALARMS} WHERE (? = 0 OR id < ?) ORDER BY id DESC LIMIT ?", (before, before, count)
        )
        return [_alarm(row) for row in rows]

    def last_alarm(self) -> int:
        """The number of the last alarm; 0 where there was none."""
        return int(self._read("SELECT coalesce(max(id), 0) FROM alarms")[0][0])

    def scores(self, count: int) -> list[tuple[int, float | None, float | None, bool | None]]:
        """Number, score, threshold and flag of the last parts, the oldest first."""
        rows = self._read("SELECT id, score, threshold, flagged FROM parts ORDER BY id DESC LIMIT ?", (count,))
        return [(row[0], row[1], row[2], None if row[3] is None else bool(row[3])) for row in reversed(rows)]

    def alarm(self, number: int) -> Alarm | None:
        """The alarm of this number."""
        rows = self._read(f"SELECT * FROM {ALARMS} WHERE id = ?", (number,))
        return _alarm(rows[0]) if rows else None

    def monitor(self, name: str) -> Any:
        """What a monitor has left; None where it has left nothing."""
        rows = self._read("SELECT state FROM monitors WHERE name = ?", (name,))
        return json.loads(rows[0][0]) if rows else None

    def passed(self, after: int, most: int) -> list[tuple[int, Mapping[str, float]]]:
        """(part, its statistics) of parts that were judged and not flagged, in their order.

        Args:
            after: only parts of a higher number.
            most: how many.
        """
        query = "SELECT id, statistics FROM parts WHERE id > ? AND flagged = 0 ORDER BY id LIMIT ?"
        return [(row[0], json.loads(row[1])) for row in self._read(query, (after, most))]

    def standouts(self, most: int) -> list[tuple[int, bytes]]:
        """(part, vectors) of the last parts of which something was kept, in their order."""
        rows = self._read("SELECT part, vectors FROM standouts ORDER BY part DESC LIMIT ?", (most,))
        return [(row[0], row[1]) for row in reversed(rows)]

    def record(
        self,
        part: Part,
        standouts: bytes | None = None,
        monitors: Mapping[str, Any] | None = None,
        forget: int = 0,
        keep: Iterable[int] = (),
    ) -> Part:
        """Writes a part, its alarms and what the monitors know, all or nothing; returns it as it is recorded.

        Args:
            part: with its alarms. Where its key is recorded already, nothing is written and that row is returned.
            standouts: what stands out in it, for the search for what recurs.
            monitors: state by name.
            forget: standouts of parts up to this number are no longer needed,
            keep: but for those of these parts.

        Raises:
            LedgerUnavailable: it cannot be written now, and nothing was.
        """
        with self._writing, self._transaction() as cursor:
            cursor.execute("DELETE FROM inbox WHERE key = ?", (_stored(part.key),))
            known = cursor.execute("SELECT * FROM parts WHERE key = ?", (_stored(part.key),)).fetchone()
            if known:
                return self._with_alarms(_part(known))
            number = _insert(cursor, _values(part))
            for alarm in part.alarms:
                cursor.execute(
                    "INSERT INTO alarms (part, raised, kind, subject, message, parts) VALUES (?, ?, ?, ?, ?, ?)",
                    (number, part.judged, alarm.kind, alarm.subject, alarm.message,
                     json.dumps([*alarm.parts, number])),
                )  # fmt: skip
            if standouts is not None:
                cursor.execute("INSERT INTO standouts (part, vectors) VALUES (?, ?)", (number, standouts))
            if forget:
                cursor.execute(
                    "DELETE FROM standouts WHERE part <= ? AND part NOT IN (SELECT value FROM json_each(?))",
                    (forget, json.dumps(list(keep))),
                )
            for name, state in (monitors or {}).items():
                cursor.execute("INSERT OR REPLACE INTO monitors VALUES (?, ?)", (name, json.dumps(state)))
            row = cursor.execute("SELECT * FROM parts WHERE id = ?", (number,)).fetchone()
        return self._with_alarms(_part(row))

    def acknowledge(self, alarm: int, reason: str, moment: str, monitors: Mapping[str, Any]) -> None:
        """Writes why an alarm needs nothing done, and what the monitors know then; errors as for `record`.

        Args:
            alarm: its number; a reason that was given before gives way.
            reason: in a person's words.
            moment: ISO 8601 in UTC.
            monitors: state by name.
        """
        with self._writing, self._transaction() as cursor:
            cursor.execute("INSERT OR REPLACE INTO acknowledged VALUES (?, ?, ?)", (alarm, reason, moment))
            for name, state in monitors.items():
                cursor.execute("INSERT OR REPLACE INTO monitors VALUES (?, ?)", (name, json.dumps(state)))

    def record_all(self, parts: Iterable[Part]) -> None:
        """Writes parts that no monitor is told of, all or none; errors as for `record`.

        Rows with the same keys give way, and keep their numbers.
        """
        with self._writing, self._transaction() as cursor:
            for part in parts:
                known = cursor.execute("SELECT id FROM parts WHERE key = ?", (_stored(part.key),)).fetchone()
                _insert(cursor, ({"id": known["id"]} if known else {}) | _values(part))

    def receive(self, key: str, name: str, path: str) -> str:
        """Notes a picture that has come and is to be judged; returns the path that is noted for this key.

        Raises:
            LedgerUnavailable: it cannot be written now.
        """
        with self._writing, self._transaction() as cursor:
            cursor.execute("INSERT OR IGNORE INTO inbox VALUES (?, ?, ?)", tuple(map(_stored, (key, name, path))))
            return _text(cursor.execute("SELECT path FROM inbox WHERE key = ?", (_stored(key),)).fetchone()[0])

    def drop(self, key: str) -> None:
        """Forgets that a picture has come; errors as for `receive`."""
        with self._writing, self._transaction() as cursor:
            cursor.execute("DELETE FROM inbox WHERE key = ?", (_stored(key),))

    def inbox(self) -> list[tuple[str, str, str]]:
        """(key, name, path) of what has come and is not judged yet, in the order in which it came."""
        rows = self._read("SELECT key, name, path FROM inbox ORDER BY rowid")
        return [(_text(row[0]), _text(row[1]), _text(row[2])) for row in rows]

    def next_number(self) -> int:
        """The number that the next part will get, where nobody else writes."""
        rows = self._read("SELECT seq FROM sqlite_sequence WHERE name = 'parts'")
        return int(rows[0][0]) + 1 if rows else 1

    def csv(self) -> Iterator[str]:
        """All parts as CSV, a line each in their order, under a heading."""
        last = 0
        stream = io.StringIO()
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        while True:
            rows = self._read(f"SELECT {', '.join(COLUMNS)} FROM parts WHERE id > ? ORDER BY id LIMIT 1000", (last,))
            for row in rows:
                names = {name: shown(_text(row[name])) for name in ("key", "name", "path")}
                writer.writerow(dict(row) | names | {"shows": "; ".join(json.loads(row["shows"]))})
            yield stream.getvalue()
            stream.seek(0)
            stream.truncate()
            if not rows:
                return
            last = rows[-1]["id"]

    def export(self, path: str | Path) -> None:
        """Writes `csv` to a file."""
        with whole_file(path) as name, Path(name).open("w", encoding="utf-8", newline="", errors="replace") as stream:
            stream.writelines(self.csv())

    def check(self) -> None:
        """Tries whether a part could be recorded now; errors as for `record`."""
        with self._writing, self._transaction() as cursor:
            cursor.execute("UPDATE monitors SET state = state WHERE name = ''")

    def close(self) -> None:
        """Closes all connections; the file is whole without its -wal and -shm files from then on."""
        for connection in self._open:
            connection.close()
        self._open.clear()
        self._threads = threading.local()

    @property
    def _connection(self) -> sqlite3.Connection:
        """That of this thread."""
        connection: sqlite3.Connection | None = getattr(self._threads, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self.path, WAIT_SECONDS, isolation_level=None, check_same_thread=False)
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA synchronous = FULL")
            self._threads.connection = connection
            self._open.append(connection)
        return connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        connection = self._connection
        try:
            cursor = connection.cursor()
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.rollback()
                raise
        except sqlite3.OperationalError as error:
            raise LedgerUnavailable(f"{self.path}: cannot be written now ({error})") from None

    def _read(self, query: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.OperationalError as error:
            raise LedgerUnavailable(f"{self.path}: cannot be read now ({error})") from None

    def _select(self, query: str, values: Sequence[object] = ()) -> list[Part]:
        return [self._with_alarms(_part(row)) for row in self._read(query, values)]

    def _with_alarms(self, part: Part) -> Part:
        rows = self._read(f"SELECT * FROM {ALARMS} WHERE part = ? ORDER BY id", (part.id,))
        return replace(part, alarms=tuple(map(_alarm, rows))) if rows else part


def _stored(text: str) -> str | bytes:
    """A name as SQLite takes it: bytes where it is no Unicode, as file names may be."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return os.fsencode(text)


def _text(value: str | bytes) -> str:
    return os.fsdecode(value) if isinstance(value, bytes) else value


def _insert(cursor: sqlite3.Cursor, values: Mapping[str, Any]) -> int:
    """Writes a row of parts; returns its number."""
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    updates = ", ".join(f"{name} = excluded.{name}" for name in values)
    cursor.execute(
        f"INSERT INTO parts ({names}) VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET {updates}", tuple(values.values())
    )
    return int(cursor.lastrowid or 0)


def _values(part: Part) -> dict[str, Any]:
    """The columns of a part."""
    return {
        "key": _stored(part.key),
        "name": _stored(part.name),
        "path": _stored(part.path),
        "received": part.received,
        "judged": part.judged,
        "status": part.status,
        "reason": part.reason,
        "bank": part.bank,
        "score": part.score,
        "p_value": part.p_value,
        "threshold": part.threshold,
        "flagged": None if part.flagged is None else int(part.flagged),
        "width": part.width,
        "height": part.height,
        "peak": json.dumps(list(part.peak)),
        "shows": json.dumps(list(part.shows)),
        "regions": json.dumps(list(part.regions)),
        "statistics": json.dumps(dict(part.statistics)),
        "seconds": part.seconds,
        "layer": part.layer,
    }


def _part(row: sqlite3.Row) -> Part:
    values = dict(row)
    flagged = values["flagged"]
    return Part(
        **values
        | {
            "key": _text(values["key"]),
            "name": _text(values["name"]),
            "path": _text(values["path"]),
            "flagged": None if flagged is None else bool(flagged),
            "peak": tuple(json.loads(values["peak"])),
            "shows": tuple(json.loads(values["shows"])),
            "regions": tuple(json.loads(values["regions"])),
            "statistics": json.loads(values["statistics"]),
        }
    )


def _alarm(row: sqlite3.Row) -> Alarm:
    return Alarm(**dict(row) | {"parts": tuple(json.loads(row["parts"]))})
