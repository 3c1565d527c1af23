"""The database of a line: an SQLite file in WAL mode that several threads and programs use at once.

Other programs can read the file while a line writes. Every transaction is synchronised to disk, so that a power cut
loses none.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from codegraph_jax.core.errors import UserError

APPLICATION, VERSION = 0x436F4447, 7
"""Application id and version in the header of the file."""
WAIT_SECONDS = 10.0
"""Seconds that a write waits for the lock of another program before it fails."""


class LedgerError(UserError):
    """The file is not a ledger, or cannot be opened."""


class LedgerUnavailableError(UserError):
    """The ledger cannot be read or written now (locked, damaged, removed, or a full disk); nothing was recorded."""


class Database:
    """The file of one line; thread-safe: each operation opens a connection of its own, which takes 0.2 ms.

    Args:
        path: path of the file, which is created if it is missing.
        schema: statements that make missing tables.

    Raises:
        LedgerError: the file is not a ledger, is damaged, or cannot be opened.
    """

    def __init__(self, path: str | Path, schema: str):
        self.path = Path(path)
        self._paths = (str(self.path), f"{self.path}-wal")
        self._writing = threading.Lock()
        self._closed = False
        try:
            with closing(self._connect("rwc")) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                self._require_ledger(connection)
                connection.execute("PRAGMA journal_mode = WAL")
                # before the tables, so that a file of a killed start is recognised as a ledger
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
                connection.executescript(schema)
            # stays open and unused: SQLite deletes the -wal file when the last connection is closed
            self._anchor = self._connect()
            self._anchor.execute("SELECT count(*) FROM sqlite_master").fetchone()
            self._files = self._identity()
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(f"{self.path}: cannot be opened as the ledger of a line ({error})") from None

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Cursor]:
        """A transaction, which is rolled back after an error.

        Raises:
            LedgerUnavailableError: the ledger cannot be written now, and nothing was written.
        """
        # `connection` as a context commits or rolls back; closing alone would not while a cursor still has rows to read
        with self._writing, self._connection("written") as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection.cursor()

    def read(self, query: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        """The rows of a query.

        Raises:
            LedgerUnavailableError: the ledger cannot be read now.
        """
        with self._connection("read") as connection:
            return connection.execute(query, values).fetchall()

    def close(self) -> None:
        """Closes the file; SQLite then merges the -wal file into the ledger."""
        self._closed = True
        self._anchor.close()

    def _require_ledger(self, connection: sqlite3.Connection) -> None:
        """Checks that the file is a ledger and undamaged."""
        application, version = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not empty and application != APPLICATION:
            raise LedgerError(f"{self.path}: is not the ledger of a line; choose another --out")
        if not empty and version != VERSION:
            raise LedgerError(f"{self.path}: was written by another version of this program; choose another --out")
        damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise LedgerError(
                f"{self.path}: is damaged ({' '.join(damage.split())}); move it away to start a new ledger, or restore "
                "a backup"
            )

    def _connect(self, mode: str = "rw") -> sqlite3.Connection:
        """Opens a connection; the mode `rwc` creates a missing file."""
        uri = f"file:{quote(os.fsencode(self.path), safe='')}?mode={mode}"
        connection = sqlite3.connect(uri, WAIT_SECONDS, isolation_level=None, check_same_thread=False, uri=True)
        connection.row_factory = sqlite3.Row
        return connection

    def _identity(self) -> list[tuple[int, int] | None]:
        """(device, inode) of the file and of its -wal file; None for a missing file.

        The files are not opened for this, since closing a file would release SQLite's locks of this process.
        """
        found: list[tuple[int, int] | None] = []
        for path in self._paths:
            try:
                status = os.stat(path)  # noqa: PTH116  called before every operation; takes half as long as pathlib
                found.append((status.st_dev, status.st_ino))
            except FileNotFoundError:
                found.append(None)
        return found

    def _require_same_files(self) -> None:
        if self._closed:
            raise LedgerUnavailableError(f"{self.path}: is closed, since the line has ended")
        if self._identity() != self._files:
            raise LedgerUnavailableError(
                f"{self.path}: was removed or replaced while the line was running; put it back, or start the line "
                "again to use the file that is there now"
            )

    @contextmanager
    def _connection(self, purpose: str) -> Iterator[sqlite3.Connection]:
        """A connection for one operation.

        Raises:
            LedgerUnavailableError: the file cannot be opened or was replaced, or the operation failed.
        """
        try:
            self._require_same_files()
            with closing(self._connect()) as connection:
                # again, since the file may have been replaced before it was opened; SQLite reads it from here on
                self._require_same_files()
                connection.execute("PRAGMA synchronous = FULL")
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise LedgerUnavailableError(f"{self.path}: cannot be {purpose} now ({error})") from None
