"""The ledger of a line, an SQLite file: one row for each part, the alarms, and the state of the line.

A part's row, its alarms and the state of the line are written in one transaction, so that after a crash the part is
either recorded completely or inspected again.
"""

import json
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from codegraph_jax.core.files import csv_pieces, write_csv
from codegraph_jax.core.names import table_cell
from codegraph_jax.line import outbox
from codegraph_jax.line.database import Database, LedgerUnavailableError
from codegraph_jax.line.outbox import Outbox
from codegraph_jax.line.part import Alarm, Part, ReceivedPhoto, utc_now

LEDGER_FILE = "line.sqlite"
"""Name of a ledger in a workdir."""
LEDGER_FILES = tuple(LEDGER_FILE + suffix for suffix in ("", "-wal", "-shm", "-journal"))
"""The ledger and the files that SQLite writes beside it."""
ALARMS, RECEIVED = "alarms", "received"
"""Directories beside the ledger: contact sheets, and photos that were sent."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS parts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    path TEXT NOT NULL,
    received_at TEXT NOT NULL,
    inspected_at TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('inspected', 'not_inspected')),
    failure TEXT NOT NULL DEFAULT '',
    bank TEXT NOT NULL DEFAULT '',
    score REAL, p_value REAL, threshold REAL, flagged INTEGER,
    width INTEGER, height INTEGER,
    peak_position TEXT NOT NULL DEFAULT '[]',
    patterns TEXT NOT NULL DEFAULT '[]',
    regions TEXT NOT NULL DEFAULT '[]',
    statistics TEXT NOT NULL DEFAULT '{}',
    seconds REAL,
    heatmap BLOB,
    fingerprint TEXT NOT NULL DEFAULT '',
    stamp TEXT NOT NULL DEFAULT '',
    answer TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS fingerprints ON parts (fingerprint);
CREATE INDEX IF NOT EXISTS verdicts ON parts (status, flagged);
CREATE INDEX IF NOT EXISTS names ON parts (name);
CREATE TABLE IF NOT EXISTS alarms (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    raised_by INTEGER NOT NULL REFERENCES parts (id),
    raised_at TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    message TEXT NOT NULL,
    parts TEXT NOT NULL DEFAULT '[]',
    acknowledgement TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS peak_patches (
    part INTEGER PRIMARY KEY REFERENCES parts (id),
    vectors BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS inbox (
    key TEXT PRIMARY KEY, name TEXT NOT NULL, path TEXT NOT NULL, fingerprint TEXT NOT NULL, received_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS line_state (name TEXT PRIMARY KEY, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS attempts (photo TEXT PRIMARY KEY, count INTEGER NOT NULL);
"""
COLUMNS = (
    "id", "key", "name", "decision", "verdict", "answer", "score", "p_value", "threshold", "failure", "patterns",
    "width", "height", "bank", "seconds", "received_at", "inspected_at", "path",
)  # fmt: skip
"""Columns of parts.csv."""
NOT_STORED = ("decision", "verdict")
"""Columns of parts.csv that follow from status, flagged, score, p-value and threshold."""
NAME_COLUMNS, LIST_COLUMNS = ("key", "name", "path"), ("peak_position", "patterns", "regions")
"""Columns that may not be valid Unicode, since they have names of files; columns of JSON lists."""


class StateUpdate(NamedTuple):
    """Changes of the line's state that are saved with a part.

    Attributes:
        states: values by name, see `Ledger.state`.
        peak_patches: `PeakPatches.to_bytes` of the part, for the search for recurring defects; empty: none.
        first_needed: peak patches of parts before this one are deleted, except for those in `accepted`.
        accepted: parts of acknowledged alarms.
    """

    states: Mapping[str, Any]
    peak_patches: bytes = b""
    first_needed: int = 0
    accepted: Collection[int] = ()


class Ledger(Database):
    """The ledger of one line; thread-safe.

    Args:
        path: path of the file, which is created if it is missing.

    Raises:
        LedgerError: the file is not a ledger, is damaged, or cannot be opened.
    """

    def __init__(self, path: str | Path):
        super().__init__(path, SCHEMA + outbox.SCHEMA)
        self.outbox = Outbox(self)

    def by_key(self, key: str) -> Part | None:
        """The part with this key, or None."""
        return self._first("SELECT * FROM parts WHERE key = ?", _stored(key))

    def by_number(self, number: int) -> Part | None:
        """The part of this number, or None."""
        return self._first("SELECT * FROM parts WHERE id = ?", number)

    def recorded(self, files: Iterable[tuple[str, str]]) -> set[str]:
        """Names of the files that are recorded, by (name, `Part.stamp`) of each file."""
        query = "SELECT 1 FROM parts WHERE name = ? AND stamp = ? LIMIT 1"
        with self._connection("read") as connection:
            return {name for name, stamp in files if connection.execute(query, (_stored(name), stamp)).fetchone()}

    def of_file(self, name: str) -> Part | None:
        """The last part recorded for a file of this name, or None."""
        return self._first("SELECT * FROM parts WHERE name = ? AND stamp != '' ORDER BY id DESC LIMIT 1", _stored(name))

    def same_content(self, fingerprint: str, rest: str) -> list[Part]:
        """The last parts from files with this fingerprint whose key ends in `rest` after the name."""
        where = "fingerprint = ? AND stamp != '' AND key = name || ?"
        return self._select(f"SELECT * FROM parts WHERE {where} ORDER BY id DESC LIMIT 10", (fingerprint, rest))

    def latest(self, limit: int, before: int = 0, flagged: bool = False) -> list[Part]:
        """The last parts, newest first.

        Args:
            limit: greatest number of parts.
            before: only parts below this number; 0: all.
            flagged: only flagged parts.
        """
        where = "WHERE (? = 0 OR id < ?)" + (" AND flagged = 1" if flagged else "")
        return self._select(f"SELECT * FROM parts {where} ORDER BY id DESC LIMIT ?", (before, before, limit))

    def counts(self) -> dict[str, int]:
        """Numbers of parts: `inspected`, `not_inspected`, and `flagged` among the inspected ones."""
        query = "SELECT count(*), coalesce(sum(status = 'not_inspected'), 0), coalesce(sum(flagged), 0) FROM parts"
        (row,) = self.read(query)
        return {"inspected": row[0] - row[1], "not_inspected": row[1], "flagged": row[2]}

    def summary(self) -> dict[str, Any]:
        """Fields of `LineSummary` that the ledger has: all except `waiting`."""
        last = {"last_alarm": self.last_alarm(), "last_part": self.next_number() - 1}
        return self.counts() | last | {"undelivered": self.outbox.undelivered()}

    def alarms(self, limit: int, before: int = 0) -> list[Alarm]:
        """The last alarms, newest first; arguments as for `latest`."""
        rows = self.read(
            "SELECT * FROM alarms WHERE (? = 0 OR id < ?) ORDER BY id DESC LIMIT ?", (before, before, limit)
        )
        return [_alarm(row) for row in rows]

    def last_alarm(self) -> int:
        """The number of the last alarm; 0 if there is none."""
        return int(self.read("SELECT coalesce(max(id), 0) FROM alarms")[0][0])

    def scores(self, limit: int) -> list[dict[str, Any]]:
        """`id`, `score`, `threshold` and `flagged` of the last parts, oldest first."""
        rows = self.read("SELECT id, score, threshold, flagged FROM parts ORDER BY id DESC LIMIT ?", (limit,))
        return [dict(row) for row in reversed(rows)]

    def alarm(self, number: int) -> Alarm | None:
        """The alarm of this number, or None."""
        rows = self.read("SELECT * FROM alarms WHERE id = ?", (number,))
        return _alarm(rows[0]) if rows else None

    def state(self, name: str) -> Any:
        """A value of the line's state, or None: of a monitor, or for instance the digest of the bank."""
        rows = self.read("SELECT state FROM line_state WHERE name = ?", (name,))
        return _json(rows[0][0]) if rows else None

    def passed(self, after: int, limit: int) -> list[tuple[int, Mapping[str, float]]]:
        """(number, statistics) of parts that passed, in order.

        Args:
            after: only parts above this number.
            limit: greatest number of parts.
        """
        query = "SELECT id, statistics FROM parts WHERE id > ? AND flagged = 0 ORDER BY id LIMIT ?"
        return [(row[0], _json(row[1])) for row in self.read(query, (after, limit))]

    def peak_patches(self) -> list[tuple[int, bytes]]:
        """(number, bytes) of the parts whose peak patches are stored, in order."""
        return [(row[0], row[1]) for row in self.read("SELECT part, vectors FROM peak_patches ORDER BY part")]

    def record(
        self, part: Part, update: StateUpdate | None = None, replaces: int = 0, keep_attempts: bool = False
    ) -> Part:
        """Writes a part, its alarms and the state of the line in one transaction; returns the recorded part.

        Args:
            part: the part with its alarms. If its key is recorded, nothing is written and that part is returned.
            update: changes of the state of the line.
            replaces: number of the row that is replaced, with its alarms; 0: none.
            keep_attempts: whether the attempts to inspect the photo stay counted, see `begin_attempt`.

        Raises:
            LedgerUnavailableError: the ledger cannot be written now, and nothing was written.
        """
        with self.transaction() as cursor:
            cursor.execute("DELETE FROM inbox WHERE key = ?", (_stored(part.key),))
            if not keep_attempts:
                cursor.execute("DELETE FROM attempts WHERE photo = ?", (_stored(part.photo_id),))
            for table, column in (("peak_patches", "part"), ("alarms", "raised_by"), ("parts", "id")):
                cursor.execute(f"DELETE FROM {table} WHERE {column} = ?", (replaces,))
            known = cursor.execute("SELECT id FROM parts WHERE key = ?", (_stored(part.key),)).fetchone()
            if known:
                return self._recorded(known["id"])
            number = _insert(cursor, _values(part))
            for alarm in part.alarms:
                cursor.execute(
                    "INSERT INTO alarms (raised_by, raised_at, kind, subject, message, parts) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    (number, part.inspected_at, alarm.kind, alarm.subject, alarm.message,
                     json.dumps([*alarm.parts, number])),
                )  # fmt: skip
            if update:
                cursor.execute(
                    "DELETE FROM peak_patches WHERE part < ? AND part NOT IN (SELECT value FROM json_each(?))",
                    (update.first_needed, json.dumps(list(update.accepted))),
                )
                if update.peak_patches:
                    cursor.execute("INSERT INTO peak_patches VALUES (?, ?)", (number, update.peak_patches))
                _save_states(cursor, update.states)
            self.outbox.add(cursor, "part", number, replaces)
        self.outbox.wake()
        return self._recorded(number)

    def acknowledge(self, alarm: int, reason: str, states: Mapping[str, Any]) -> None:
        """Writes the reason for acknowledging an alarm, and states of the line; errors as for `record`.

        Args:
            alarm: number of the alarm, whose earlier reason is replaced.
            reason: the operator's reason.
            states: values by name, see `state`.
        """
        with self.transaction() as cursor:
            cursor.execute("UPDATE alarms SET acknowledgement = ? WHERE id = ?", (reason, alarm))
            _save_states(cursor, states)
            self.outbox.add(cursor, "acknowledgement", alarm)
        self.outbox.wake()

    def begin_attempt(self, photo: str) -> int:
        """Counts an attempt to inspect a photo; returns the number of attempts since the last `clear_attempts`.

        Args:
            photo: `ReceivedPhoto.photo_id`.

        Raises:
            LedgerUnavailableError: as for `record`.
        """
        with self.transaction() as cursor:
            query = "INSERT INTO attempts VALUES (?, 1) ON CONFLICT DO UPDATE SET count = count + 1 RETURNING count"
            return int(cursor.execute(query, (_stored(photo),)).fetchone()[0])

    def clear_attempts(self, photo: str) -> None:
        """Resets the attempts to inspect a photo; errors as for `record`."""
        with self.transaction() as cursor:
            cursor.execute("DELETE FROM attempts WHERE photo = ?", (_stored(photo),))

    def update_file(self, part: Part) -> None:
        """Updates key, name, path and stamp of a part whose file was renamed or touched."""
        values = (*map(_stored, (part.key, part.name, part.path)), part.stamp, part.id)
        with self.transaction() as cursor:
            cursor.execute("UPDATE OR IGNORE parts SET key = ?, name = ?, path = ?, stamp = ? WHERE id = ?", values)

    def answer(self, number: int, answer: str, bank: str) -> None:
        """Writes the operator's answer to a part, and the digest of the extended bank; errors as for `record`.

        Args:
            number: number of the part.
            answer: `good`, `defective`, or empty if it was taken back.
            bank: digest of the bank from now on; the monitors treat its scores as those of the bank before.
        """
        with self.transaction() as cursor:
            cursor.execute("UPDATE parts SET answer = ? WHERE id = ?", (answer, number))
            _save_states(cursor, {"bank": bank})
            self.outbox.add(cursor, "answer", number)
        self.outbox.wake()

    def record_all(self, parts: Iterable[Part]) -> None:
        """Writes parts in one transaction, without the state of the line; errors as for `record`.

        Rows with the same key are replaced and keep their numbers.
        """
        with self.transaction() as cursor:
            for part in parts:
                known = cursor.execute("SELECT id FROM parts WHERE key = ?", (_stored(part.key),)).fetchone()
                _insert(cursor, ({"id": known["id"]} if known else {}) | _values(part))

    def add_to_inbox(self, photo: ReceivedPhoto) -> ReceivedPhoto:
        """Adds a photo to the inbox.

        Returns:
            The photo in the inbox for this key, which may come from an earlier request.

        Raises:
            LedgerUnavailableError: the ledger cannot be written now.
        """
        with self.transaction() as cursor:
            row = cursor.execute("SELECT * FROM inbox WHERE key = ?", (_stored(photo.key),)).fetchone()
            earlier = ReceivedPhoto(**_with_names(row)) if row else None
            if earlier and (earlier.fingerprint != photo.fingerprint or Path(earlier.path).exists()):
                return earlier
            values = (*map(_stored, (photo.key, photo.name, photo.path)), photo.fingerprint, photo.received_at)
            cursor.execute("INSERT OR REPLACE INTO inbox VALUES (?, ?, ?, ?, ?)", values)
        return photo

    def remove_from_inbox(self, key: str) -> None:
        """Removes a photo from the inbox; errors as for `add_to_inbox`."""
        with self.transaction() as cursor:
            cursor.execute("DELETE FROM inbox WHERE key = ?", (_stored(key),))

    def inbox(self) -> list[ReceivedPhoto]:
        """The photos that wait for inspection, in order of arrival."""
        return [ReceivedPhoto(**_with_names(row)) for row in self.read("SELECT * FROM inbox ORDER BY rowid")]

    def next_number(self) -> int:
        """The number of the next part, if no other program writes to the ledger."""
        rows = self.read("SELECT seq FROM sqlite_sequence WHERE name = 'parts'")
        return int(rows[0][0]) + 1 if rows else 1

    def csv(self, form: str = "plain") -> Iterator[str]:
        """All parts as CSV, in pieces; `form` is one of `core.files.CSV_FORMS`."""
        return csv_pieces(self._cells(), COLUMNS, form)

    def export(self, path: str | Path, form: str = "plain") -> None:
        """Writes all parts to a CSV file; `form` as for `csv`."""
        write_csv(path, self._cells(), COLUMNS, form)

    def _cells(self) -> Iterator[dict[str, object]]:
        """The columns of parts.csv for each part."""
        stored = ", ".join({*COLUMNS, "status", "flagged"}.difference(NOT_STORED))
        query, last = f"SELECT {stored} FROM parts WHERE id > ? ORDER BY id LIMIT 1000", 0
        while rows := self.read(query, (last,)):
            for row in rows:
                values = _with_names(row)
                part = Part(**values | {"flagged": row["flagged"] == 1})
                texts = {name: values[name] for name in (*NAME_COLUMNS, "failure")}
                texts |= {"patterns": "; ".join(_json(row["patterns"]))}
                texts |= {"decision": part.decision, "verdict": part.verdict}
                yield values | {name: table_cell(text) for name, text in texts.items()}
            last = rows[-1]["id"]

    def check(self) -> None:
        """Tests whether the ledger can be written; errors as for `record`."""
        with self.transaction() as cursor:
            _save_states(cursor, {"checked": utc_now()})

    def _select(self, query: str, values: Sequence[object] = ()) -> list[Part]:
        """The parts of a query, with their alarms."""
        parts = [_part(row) for row in self.read(query, values)]
        numbers = json.dumps([part.id for part in parts])
        alarms: dict[int, list[Alarm]] = {}
        query = "SELECT * FROM alarms WHERE raised_by IN (SELECT value FROM json_each(?)) ORDER BY id"
        for row in self.read(query, (numbers,)):
            alarms.setdefault(row["raised_by"], []).append(_alarm(row))
        return [replace(part, alarms=tuple(alarms.get(part.id, ()))) for part in parts]

    def _first(self, query: str, value: object) -> Part | None:
        return next(iter(self._select(query, (value,))), None)

    def _recorded(self, number: int) -> Part:
        return self._select("SELECT * FROM parts WHERE id = ?", (number,))[0]


def _stored(text: str) -> str | bytes:
    """A text for SQLite; bytes if it is a file name that is not valid Unicode."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return os.fsencode(text)


def _with_names(row: sqlite3.Row) -> dict[str, Any]:
    """The columns of a row of `parts` or `inbox`, with `NAME_COLUMNS` as str."""
    return dict(row) | {name: os.fsdecode(row[name]) for name in NAME_COLUMNS}


def _save_states(cursor: sqlite3.Cursor, states: Mapping[str, Any]) -> None:
    """Writes values of the line's state by name."""
    rows = [(name, json.dumps(state)) for name, state in states.items()]
    cursor.executemany("INSERT OR REPLACE INTO line_state VALUES (?, ?)", rows)


def _insert(cursor: sqlite3.Cursor, values: Mapping[str, Any]) -> int:
    """Writes a row into `parts`; returns its number."""
    names, placeholders = ", ".join(values), ", ".join(f":{name}" for name in values)
    updates = ", ".join(f"{name} = excluded.{name}" for name in values)
    cursor.execute(
        f"INSERT INTO parts ({names}) VALUES ({placeholders}) ON CONFLICT (id) DO UPDATE SET {updates}", values
    )
    return int(cursor.lastrowid or 0)


def _values(part: Part) -> dict[str, Any]:
    """The columns of a part."""
    # a row that is replaced keeps its number and its answer
    values = {name: value for name, value in vars(part).items() if name not in ("id", "answer", "alarms")}
    values |= {name: _stored(values[name]) for name in NAME_COLUMNS}
    return values | {name: json.dumps(values[name]) for name in (*LIST_COLUMNS, "statistics")}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise LedgerUnavailableError(f"{LEDGER_FILE} is damaged ({text[:40]!r}); restore a backup") from None


def _part(row: sqlite3.Row) -> Part:
    values = _with_names(row)
    values |= {name: tuple(_json(values[name])) for name in LIST_COLUMNS}
    values["flagged"] = None if values["flagged"] is None else bool(values["flagged"])
    return Part(**values | {"statistics": _json(values["statistics"])})


def _alarm(row: sqlite3.Row) -> Alarm:
    return Alarm(**dict(row) | {"parts": tuple(_json(row["parts"]))})
