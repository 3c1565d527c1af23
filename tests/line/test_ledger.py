"""The ledger: one row per part, also after a failure while it is written."""

import csv
import io
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from codegraph_jax.line import database
from codegraph_jax.line import ledger as module
from codegraph_jax.line.database import LedgerError, LedgerUnavailableError
from codegraph_jax.line.ledger import Ledger, StateUpdate
from codegraph_jax.line.part import Alarm, ReceivedPhoto
from tests.line.parts import MOMENT, part
from tests.support.threads import at_the_same_time
from tests.support.waiting import wait_until


def test_a_part_is_read_as_it_was_recorded(ledger):
    alarm = Alarm("recurrence", "group", "It recurs.", (4, 5))
    recorded = ledger.record(part(alarms=(alarm,)), StateUpdate({"drift": {"up": 1.5}}, b"peaks"))
    assert recorded.id == 1
    assert replace(recorded, id=0, alarms=()) == part()
    (known,) = recorded.alarms
    assert (known.kind, known.parts, known.raised_by, known.raised_at) == ("recurrence", (4, 5, 1), 1, MOMENT)
    assert ledger.by_number(1) == ledger.by_key("a") == recorded
    assert ledger.state("drift") == {"up": 1.5} and ledger.state("other") is None
    assert ledger.peak_patches() == [(1, b"peaks")]
    assert ledger.alarms(5) == [ledger.alarm(known.id)] == [known]


def test_a_key_is_one_row_and_equal_photos_are_two(ledger):
    first = ledger.record(part())
    assert ledger.record(part(score=9.0), StateUpdate({"drift": {}})) == first
    assert ledger.state("drift") is None
    assert ledger.record(part("b")).id == 2
    assert ledger.counts() == {"inspected": 2, "not_inspected": 0, "flagged": 0}


def test_pages_and_scores(ledger):
    for number in range(7):
        ledger.record(part(str(number), flagged=number % 3 == 0, score=number / 10))
    assert [p.id for p in ledger.latest(3)] == [7, 6, 5]
    assert [p.id for p in ledger.latest(3, before=5)] == [4, 3, 2]
    assert [p.id for p in ledger.latest(9, flagged=True)] == [7, 4, 1]
    assert [tuple(row.values()) for row in ledger.scores(2)] == [(6, 0.5, 0.4, False), (7, 0.6, 0.4, True)]
    assert [number for number, _ in ledger.passed(2, 2)] == [3, 5]


def test_received_photos_stay_in_the_inbox_until_they_are_inspected(ledger):
    first, gone = ReceivedPhoto("k", "n", str(ledger.path), "c"), ReceivedPhoto("l", "m", "/gone", "e")
    assert ledger.add_to_inbox(first) == first
    for fingerprint in ("c", "d"):
        assert ledger.add_to_inbox(ReceivedPhoto("k", "n", "/other", fingerprint)) == first
    ledger.add_to_inbox(gone)
    # if the recorded photo is gone, the next one replaces it
    again = replace(gone, path="/q")
    assert ledger.add_to_inbox(again) == again
    assert ledger.inbox() == [first, again]
    ledger.record(part("k"))
    ledger.remove_from_inbox("l")
    assert ledger.inbox() == []


def test_rows_of_inspections_give_way_and_keep_their_numbers(ledger):
    ledger.record_all([part("a"), part("b")])
    ledger.record_all([part("b", score=0.9), part("c")])
    assert [(p.id, p.key, p.score) for p in ledger.latest(5)] == [(3, "c", 0.25), (2, "b", 0.9), (1, "a", 0.25)]


def test_names_that_are_not_unicode_keep_their_bytes(ledger):
    name = os.fsdecode(b"caf\xe9.png")
    ledger.record(replace(part(), key=name, name=name, path=f"/x/{name}"))
    found = ledger.by_key(name)
    assert found and found.path == f"/x/{name}" and os.fsencode(found.name) == b"caf\xe9.png"
    photo = ledger.add_to_inbox(ReceivedPhoto(f"{name}2", name, name))
    assert ledger.inbox() == [photo]
    assert "caf\ufffd.png" in "".join(ledger.csv())


def test_the_table_has_a_row_for_each_part(ledger, monkeypatch, tmp_path):
    hostile = '=cmd(),"\n'
    for number in range(5):
        ledger.record(replace(part(str(number), p_value=0.01 if number == 4 else 0.5), name=hostile))
    ledger.record(part("flagged", flagged=True))
    ledger.record(ReceivedPhoto("unread", "unread", "unread").not_inspected("cannot be decoded"))
    ledger.export(tmp_path / "parts.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "parts.csv").read_text())))
    assert [row["id"] for row in rows] == ["1", "2", "3", "4", "5", "6", "7"]
    assert [row["decision"] for row in rows] == [*["OK"] * 5, "NOK", "NOK"]
    assert [row["verdict"] for row in rows[3:]] == ["passed", "check", "flagged", "not_inspected"]
    assert "\n" not in rows[0]["name"] and rows[0]["patterns"] == "imprint"
    assert tuple(rows[0]) == module.COLUMNS


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text").write_text("nothing of the kind " * 100)
    with pytest.raises(LedgerError, match="cannot be opened"):
        Ledger(tmp_path / "text")
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE parts (x)")
    other.commit()
    other.close()
    with pytest.raises(LedgerError, match="not the ledger"):
        Ledger(tmp_path / "other")
    Ledger(tmp_path / "later").close()
    later = sqlite3.connect(tmp_path / "later")
    later.execute(f"PRAGMA user_version = {database.VERSION + 1}")
    later.close()
    with pytest.raises(LedgerError, match="another version"):
        Ledger(tmp_path / "later")


def test_a_start_that_was_killed_leaves_a_ledger(tmp_path):
    half = sqlite3.connect(tmp_path / "half")
    half.execute(f"PRAGMA application_id = {database.APPLICATION}")
    half.execute(f"PRAGMA user_version = {database.VERSION}")
    half.execute(module.SCHEMA[: module.SCHEMA.index(";")])
    half.close()
    ledger = Ledger(tmp_path / "half")
    assert ledger.counts()["inspected"] == 0 and not ledger.inbox()
    ledger.close()


def test_locked_ledger_records_nothing(ledger, monkeypatch, tmp_path):
    monkeypatch.setattr(database, "WAIT_SECONDS", 0.05)
    impatient = Ledger(ledger.path)
    holder = sqlite3.connect(ledger.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerUnavailableError, match="locked"):
        impatient.record(part())
    assert impatient.by_key("a") is None  # other processes may read meanwhile
    with pytest.raises(LedgerUnavailableError):
        impatient.check()
    holder.execute("ROLLBACK")
    impatient.check()
    assert impatient.record(part()).id == 1
    impatient.close()


def test_full_disk_records_nothing(ledger, monkeypatch):
    ledger.record(part())
    connect = ledger._connect

    def full() -> sqlite3.Connection:
        connection = connect()
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    with monkeypatch.context() as disk, pytest.raises(LedgerUnavailableError, match="full"):
        disk.setattr(ledger, "_connect", full)
        large = part("b", heatmap=b"x" * 100_000, alarms=(Alarm("drift", "s", "m"),))
        ledger.record(large, StateUpdate({"drift": {}}, b"y"))
    assert ledger.by_key("b") is None and ledger.state("drift") is None and ledger.last_alarm() == 0
    assert ledger.record(part("b")).id == 2


def test_several_threads_write_and_read(ledger):
    def work(name: str) -> None:
        for number in range(20):
            ledger.record(part(f"{name}{number}"))
            ledger.latest(3)

    at_the_same_time(work, "abc")
    assert ledger.counts()["inspected"] == 60
    assert ledger.next_number() == 61


DESCRIPTORS = Path("/proc/self/fd")


def descriptors() -> int:
    return len(list(DESCRIPTORS.iterdir()))


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="descriptors are counted in Linux's process table")
def test_ended_threads_leave_no_connection(ledger):
    """A server ends idle threads after seconds; if they left connections open, descriptors would run out.

    SQLite keeps the descriptor of a closed connection for the next one, so there is one per open connection.
    """

    def work(number: int) -> None:
        ledger.record(part(str(number)))
        ledger.latest(3)

    at_the_same_time(work, range(8))
    before = descriptors()
    for first in range(8, 88, 8):
        at_the_same_time(work, range(first, first + 8))
    assert descriptors() <= before + 8
    assert ledger.counts()["inspected"] == 88


def test_a_ledger_that_cannot_be_opened_is_unavailable(ledger, monkeypatch):
    """All errors on opening a connection give status 503, not a traceback."""
    with monkeypatch.context() as without:
        without.setattr(database.sqlite3, "connect", _refused)
        with pytest.raises(LedgerUnavailableError, match="unable to open"):
            ledger.counts()
        with pytest.raises(LedgerUnavailableError, match="unable to open"):
            ledger.record(part())
    assert ledger.record(part()).id == 1


def _refused(*arguments, **fields):
    raise sqlite3.OperationalError("unable to open database file")


@pytest.mark.parametrize("change", ["removed", "replaced", "without its -wal"])
def test_removed_ledger_records_nothing(tmp_path, change):
    """Its open connections could still write, but into a deleted file."""
    ledger = Ledger(tmp_path / "line.sqlite")
    ledger.record(part())
    path = tmp_path / ("line.sqlite-wal" if change == "without its -wal" else "line.sqlite")
    path.rename(tmp_path / "away")
    if change == "replaced":
        other = Ledger(tmp_path / "other.sqlite")
        other.close()
        (tmp_path / "other.sqlite").rename(path)
    for operation in (lambda: ledger.record(part("b")), ledger.check, ledger.counts):
        with pytest.raises(LedgerUnavailableError, match="removed or replaced"):
            operation()
    path.unlink(missing_ok=True)
    (tmp_path / "away").rename(path)
    assert ledger.record(part("b")).id == 2
    ledger.close()


@pytest.mark.parametrize("change", ["removed", "replaced"])
def test_a_ledger_removed_while_it_is_opened_is_not_created_again(ledger, tmp_path, monkeypatch, change):
    connect, other = sqlite3.connect, tmp_path / "other.sqlite"
    Ledger(other).close()

    def late(*arguments, **fields):
        ledger.path.rename(tmp_path / "away")
        if change == "replaced":
            other.rename(ledger.path)
        return connect(*arguments, **fields)

    with monkeypatch.context() as going:
        going.setattr(database.sqlite3, "connect", late)
        with pytest.raises(LedgerUnavailableError, match="unable to open" if change == "removed" else "replaced"):
            ledger.record(part())
    assert ledger.path.exists() == (change == "replaced")
    (tmp_path / "away").rename(ledger.path)
    assert ledger.record(part()).id == 1


def test_names_with_signs_of_addresses_are_names_of_ledgers(tmp_path):
    place = tmp_path / "a?mode=ro#b%20c"
    place.mkdir()
    with closing(Ledger(place / "line.sqlite")) as ledger:
        assert ledger.record(part()).id == 1
    assert (place / "line.sqlite").exists()


def test_the_error_of_a_closed_ledger_says_so(tmp_path):
    ledger = Ledger(tmp_path / "line.sqlite")
    ledger.close()
    with pytest.raises(LedgerUnavailableError, match="is closed"):
        ledger.counts()


def test_an_error_releases_the_lock_while_rows_are_left_to_read(ledger):
    ledger.record_all([part(str(number)) for number in range(3)])
    rows = None
    with pytest.raises(KeyError) as kept, ledger.transaction() as cursor:
        cursor.execute("DELETE FROM parts WHERE id = 1")
        rows = cursor.execute("SELECT id FROM parts")
        rows.fetchone()
        raise KeyError
    assert kept and rows
    holder = sqlite3.connect(ledger.path, 0.0, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    holder.close()
    assert ledger.counts()["inspected"] == 3


def test_corrupt_ledger_is_unavailable_then_rejected(tmp_path):
    ledger = Ledger(tmp_path / "line.sqlite")
    for number in range(40):
        ledger.record(part(str(number), heatmap=os.urandom(50_000)))
    ledger.close()
    ledger = Ledger(tmp_path / "line.sqlite")
    size = ledger.path.stat().st_size
    with ledger.path.open("r+b") as stream:
        stream.seek(4096)
        stream.write(os.urandom(size - 4096))
    with pytest.raises(LedgerUnavailableError, match="malformed|not a database"):
        for _ in range(3):
            ledger.latest(100)
            ledger.record(part("new"))
    ledger.close()
    with pytest.raises(LedgerError, match="damaged|cannot be opened"):
        Ledger(tmp_path / "line.sqlite")


def test_damaged_page_is_reported_at_start(tmp_path):
    ledger = Ledger(tmp_path / "line.sqlite")
    for number in range(40):
        ledger.record(part(str(number), heatmap=os.urandom(50_000)))
    ledger.close()
    with ledger.path.open("r+b") as stream:
        stream.seek(ledger.path.stat().st_size // 2)
        stream.write(os.urandom(8192))
    with pytest.raises(LedgerError, match="is damaged"):
        Ledger(tmp_path / "line.sqlite")


def test_ledger_recovers_after_being_read_only(ledger, monkeypatch):
    connect = sqlite3.connect
    with monkeypatch.context() as locked:
        locked.setattr(
            database.sqlite3,
            "connect",
            lambda place, *args, **fields: connect(place.replace("mode=rw", "mode=ro"), *args, **fields),
        )
        with pytest.raises(LedgerUnavailableError, match="readonly"):
            ledger.check()
        ledger.counts()
        with pytest.raises(LedgerUnavailableError, match="readonly"):
            ledger.check()
    ledger.check()


WRITER = """
import os
import sys
from tests.line.parts import part
from codegraph_jax.line.ledger import Ledger, StateUpdate
from codegraph_jax.line.part import Alarm
for _ in sys.stdin:
    # a process of its own, which need not import everything again
    if child := os.fork():
        print(child, flush=True)
        os.waitpid(child, 0)
        print("gone", flush=True)
        continue
    ledger = Ledger(sys.argv[1])
    number = ledger.counts()["inspected"]
    while True:
        number += 1
        ledger.record(part(str(number), alarms=(Alarm("drift", "s", "m"),)), StateUpdate({"count": number}, b"s"))
"""


def test_kill_keeps_complete_parts(tmp_path):
    path, done = tmp_path / "line.sqlite", 0
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert writer.stdin and writer.stdout
    for more in (3, 10, 20):
        with closing(Ledger(path)) as reader:
            writer.stdin.write("next\n")
            child = int(writer.stdout.readline())
            wait_until(lambda wanted=done + more, reader=reader: reader.counts()["inspected"] >= wanted)
        os.kill(child, signal.SIGKILL)
        assert writer.stdout.readline() == "gone\n"
        ledger = Ledger(path)
        done = ledger.counts()["inspected"]
        assert done == ledger.state("count") == ledger.last_alarm() == len(ledger.peak_patches()) > 0
        assert [p.key for p in ledger.latest(10**6)] == [str(n) for n in range(done, 0, -1)]
        ledger.close()
    writer.stdin.close()
    assert writer.wait(60) == 0
