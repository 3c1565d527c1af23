"""The outbox of a line: results that wait until their targets have accepted them, in a table of the ledger.

A message is added in the transaction that records the part, and deleted after the target has confirmed it. If the
program crashes in between, it is sent again with the same `message_id`.
The table holds the number of the part or alarm: the message is written when it is sent, with the present state.
"""

import json
import sqlite3
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from codegraph_jax.line.database import Database
from codegraph_jax.line.part import utc_now

SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id TEXT NOT NULL,
    address TEXT NOT NULL,
    event TEXT NOT NULL,
    subject INTEGER NOT NULL,
    replaces INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    set_aside INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    failed_at TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS addresses ON outbox (address, number);
CREATE INDEX IF NOT EXISTS unsent ON outbox (address, number) WHERE NOT set_aside;
"""
LISTED_PARTS = 11
"""Maximum number of parts in a summary whose messages are set aside: one more than the page shows, which thus sees
if there are more."""
NO_LONGER_A_TARGET = "is no longer a target of this line (--send)"


@dataclass(frozen=True)
class QueuedMessage:
    """A message that waits for its target.

    Attributes:
        number: number of the row; messages are sent in this order.
        message_id: identifies the message for the receiver.
        event: `part`, `answer` or `acknowledgement`.
        subject: number of the part, or of the alarm that was acknowledged.
        replaces: number of the part that this one replaces; 0: none.
        tries: number of attempts that failed while the target accepted other messages.
    """

    number: int
    message_id: str
    event: str
    subject: int
    replaces: int
    tries: int


@dataclass(frozen=True)
class Undelivered:
    """Messages that a target has not accepted.

    Attributes:
        address: the address of the target.
        waiting: number of messages that will be sent.
        set_aside: number of messages that are not sent again until the user asks for it.
        parts: numbers of the first parts whose messages are set aside, at most `LISTED_PARTS`.
        error: the last error; empty if nothing has failed.
    """

    address: str
    waiting: int
    set_aside: int
    parts: tuple[int, ...]
    error: str


class Outbox:
    """Messages to the targets of one line; thread-safe.

    Args:
        database: the database of the line.

    Attributes:
        wake: called after a change; with `skip_pause` if messages are to be sent at once, also after an error.
    """

    def __init__(self, database: Database):
        self.database = database
        self.addresses: tuple[str, ...] = ()
        self.wake: Callable[..., None] = lambda skip_pause=False: None

    def send_to(self, addresses: Sequence[str]) -> None:
        """Sends results to these addresses from now on.

        Messages to them that were set aside are tried again; messages to former addresses are set aside.

        Raises:
            LedgerUnavailableError: as for the other methods, the ledger cannot be read or written now.
        """
        self.addresses = tuple(dict.fromkeys(addresses))
        addresses = json.dumps(self.addresses)
        with self.database.transaction() as cursor:
            cursor.execute(
                "UPDATE outbox SET set_aside = 0, tries = 0, error = '' "
                "WHERE set_aside AND address IN (SELECT value FROM json_each(?))", (addresses,),
            )  # fmt: skip
            cursor.execute(
                "UPDATE outbox SET set_aside = 1, error = ? WHERE address NOT IN (SELECT value FROM json_each(?))",
                (NO_LONGER_A_TARGET, addresses),
            )

    def add(self, cursor: sqlite3.Cursor, event: str, subject: int, replaces: int = 0) -> None:
        """Adds a message for each target, in the transaction of the caller; arguments as in `QueuedMessage`."""
        for address in self.addresses:
            cursor.execute(
                "INSERT INTO outbox (message_id, address, event, subject, replaces) VALUES (?, ?, ?, ?, ?)",
                (uuid.uuid4().hex, address, event, subject, replaces),
            )

    def next(self, address: str, at_random: bool = False) -> QueuedMessage | None:
        """The oldest message that waits for an address, or with `at_random` any of them; None if no message waits."""
        rows = self.database.read(
            "SELECT number, message_id, event, subject, replaces, tries FROM outbox "
            f"WHERE address = ? AND NOT set_aside ORDER BY {'random()' if at_random else 'number'} LIMIT 1", (address,),
        )  # fmt: skip
        return QueuedMessage(*rows[0]) if rows else None

    def remove_delivered(self, queued: QueuedMessage) -> None:
        """Deletes a message that its target has accepted."""
        with self.database.transaction() as cursor:
            cursor.execute("DELETE FROM outbox WHERE number = ?", (queued.number,))

    def record_failure(self, queued: QueuedMessage, error: str, tries: int, set_aside: bool) -> None:
        """Records a failed attempt.

        Args:
            queued: the message.
            error: why the target has not accepted it.
            tries: see `QueuedMessage`.
            set_aside: whether the message is not sent again until the user asks for it.
        """
        with self.database.transaction() as cursor:
            cursor.execute(
                "UPDATE outbox SET error = ?, failed_at = ?, tries = ?, set_aside = ? WHERE number = ?",
                (error, utc_now(), tries, int(set_aside), queued.number),
            )

    def undelivered(self) -> list[Undelivered]:
        """Messages that were not accepted, by address."""
        rows = self.database.read(
            "SELECT address, sum(NOT set_aside), sum(set_aside), coalesce((SELECT error FROM outbox AS failed "
            "WHERE failed.address = outbox.address AND error != '' ORDER BY failed_at DESC, number LIMIT 1), '') "
            "FROM outbox GROUP BY address"
        )
        found = []
        for address, waiting, set_aside, error in rows:
            parts = self.database.read(
                "SELECT DISTINCT subject FROM outbox WHERE address = ? AND set_aside AND event != 'acknowledgement' "
                "ORDER BY subject LIMIT ?", (address, LISTED_PARTS),
            )  # fmt: skip
            found.append(Undelivered(address, waiting, set_aside, tuple(row[0] for row in parts), error))
        return found

    def retry(self) -> None:
        """Sends everything again at once, also the messages that were set aside."""
        self.send_to(self.addresses)
        self.wake(skip_pause=True)

    def discard(self) -> None:
        """Deletes the messages that were set aside."""
        with self.database.transaction() as cursor:
            cursor.execute("DELETE FROM outbox WHERE set_aside")
