"""The outbox of a line: results that wait until their targets have accepted them, in a table of the ledger.

A message is added in the transaction that records the part, and deleted after the target has confirmed it. If the
program crashes in between, it is sent again with the same `delivery`.
The table holds the number of the part or alarm: the message is written when it is sent, with the present state.
"""

import sqlite3
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from codegraph_jax.line.database import Database
from codegraph_jax.line.part import utc_now

SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    delivery TEXT NOT NULL,
    target TEXT NOT NULL,
    event TEXT NOT NULL,
    subject INTEGER NOT NULL,
    replaces INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    refused INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    failed_at TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS targets ON outbox (target, number);
CREATE INDEX IF NOT EXISTS unsent ON outbox (target, number) WHERE NOT refused;
CREATE TABLE IF NOT EXISTS dropped (target TEXT PRIMARY KEY, count INTEGER NOT NULL);
"""
MAX_WAITING = 100_000
"""Messages that are kept for a target; the oldest ones are dropped, and counted."""
LISTED_PARTS = 11
"""Maximum number of refused parts in a summary: one more than the page shows, which thus sees if there are more."""
TRIMMED_EVERY = 1000
"""Number of new messages after which the waiting ones are counted; counting takes longer the more are waiting."""
REMOVED = "is no longer a target of this line (--send)"


@dataclass(frozen=True)
class Delivery:
    """A message that waits for its target.

    Attributes:
        number: number of the row; messages are sent in this order.
        delivery: identifies the message for the receiver.
        event: `part`, `answer` or `acknowledgement`.
        subject: number of the part, or of the alarm that was acknowledged.
        replaces: number of the part that this one replaces; 0: none.
        tries: number of attempts that failed while the target accepted other messages.
    """

    number: int
    delivery: str
    event: str
    subject: int
    replaces: int
    tries: int


@dataclass(frozen=True)
class Undelivered:
    """Messages that a target has not accepted.

    Attributes:
        target: the target.
        waiting: number of messages that will be sent.
        refused: number of messages that are not sent again until the user asks for it.
        dropped: number of messages that were dropped, since too many were waiting.
        parts: numbers of the first parts whose messages were refused, at most `LISTED_PARTS`.
        error: the last error; empty if nothing has failed.
    """

    target: str
    waiting: int
    refused: int
    dropped: int
    parts: tuple[int, ...]
    error: str


class Outbox:
    """Messages to the targets of one line; thread-safe.

    Args:
        database: the database of the line.

    Attributes:
        wake: called after a change; with True if messages are to be sent again at once.
    """

    def __init__(self, database: Database):
        self.database = database
        self.targets: tuple[str, ...] = ()
        self.wake: Callable[[bool], None] = lambda again: None

    def open(self, targets: Sequence[str]) -> None:
        """Sends results to these targets from now on.

        Refused messages to them are tried again; messages to former targets are refused.

        Raises:
            LedgerUnavailableError: as for the other methods, the ledger cannot be read or written now.
        """
        self.targets = tuple(dict.fromkeys(targets))
        marks = ", ".join("?" * len(self.targets))
        with self.database.transaction() as cursor:
            cursor.execute(
                f"UPDATE outbox SET refused = 0, tries = 0, error = '' WHERE refused AND target IN ({marks})",
                self.targets,
            )
            cursor.execute(
                f"UPDATE outbox SET refused = 1, error = ? WHERE target NOT IN ({marks})", (REMOVED, *self.targets)
            )

    def add(self, cursor: sqlite3.Cursor, event: str, subject: int, replaces: int = 0) -> None:
        """Adds a message for each target, in the transaction of the caller; arguments as in `Delivery`."""
        for target in self.targets:
            cursor.execute(
                "INSERT INTO outbox (delivery, target, event, subject, replaces) VALUES (?, ?, ?, ?, ?)",
                (uuid.uuid4().hex, target, event, subject, replaces),
            )
            if int(cursor.lastrowid or 0) % TRIMMED_EVERY:
                continue
            cursor.execute(
                "DELETE FROM outbox WHERE target = ? AND number <= "
                "(SELECT number FROM outbox WHERE target = ? ORDER BY number DESC LIMIT 1 OFFSET ?)",
                (target, target, MAX_WAITING),
            )
            if cursor.rowcount > 0:
                cursor.execute(
                    "INSERT INTO dropped VALUES (?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
                    (target, cursor.rowcount),
                )

    def next(self, target: str, any_of_them: bool = False) -> Delivery | None:
        """The oldest message that waits for a target, or with `any_of_them` a random one; None if no message waits."""
        rows = self.database.read(
            "SELECT number, delivery, event, subject, replaces, tries FROM outbox WHERE target = ? AND NOT refused "
            f"ORDER BY {'random()' if any_of_them else 'number'} LIMIT 1", (target,),
        )  # fmt: skip
        return Delivery(*rows[0]) if rows else None

    def delivered(self, delivery: Delivery) -> None:
        """Deletes a message that its target has accepted."""
        with self.database.transaction() as cursor:
            cursor.execute("DELETE FROM outbox WHERE number = ?", (delivery.number,))

    def failed(self, delivery: Delivery, error: str, tries: int, refused: bool) -> None:
        """Records a failed attempt.

        Args:
            delivery: the message.
            error: why the target has not accepted it.
            tries: see `Delivery`.
            refused: whether the message is not sent again until the user asks for it.
        """
        with self.database.transaction() as cursor:
            cursor.execute(
                "UPDATE outbox SET error = ?, failed_at = ?, tries = ?, refused = ? WHERE number = ?",
                (error, utc_now(), tries, int(refused), delivery.number),
            )

    def undelivered(self) -> list[Undelivered]:
        """Messages that were not accepted, by target."""
        counts = self.database.read(
            "SELECT target, sum(NOT refused), sum(refused), 0 FROM outbox GROUP BY target "
            "UNION ALL SELECT target, 0, 0, count FROM dropped"
        )
        found = []
        for target in dict.fromkeys(row[0] for row in counts):
            waiting, refused, dropped = (sum(row[i] for row in counts if row[0] == target) for i in (1, 2, 3))
            parts = self.database.read(
                "SELECT DISTINCT subject FROM outbox WHERE target = ? AND refused AND event != 'acknowledgement' "
                "ORDER BY subject LIMIT ?", (target, LISTED_PARTS),
            )  # fmt: skip
            errors = self.database.read(
                "SELECT error FROM outbox WHERE target = ? AND error != '' ORDER BY failed_at DESC, number LIMIT 1",
                (target,),
            )
            error = errors[0][0] if errors else ""
            found.append(Undelivered(target, waiting, refused, dropped, tuple(row[0] for row in parts), error))
        return found

    def retry(self) -> None:
        """Sends everything again at once, refused messages too."""
        self.open(self.targets)
        self.wake(True)

    def discard(self) -> None:
        """Deletes the refused messages, and the counts of dropped ones."""
        with self.database.transaction() as cursor:
            cursor.execute("DELETE FROM outbox WHERE refused")
            cursor.execute("DELETE FROM dropped")
