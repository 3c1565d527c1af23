"""A watched folder: every photo is inspected once, when its file is complete, in order of arrival."""

import os
import shutil
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from codegraph_jax.line import database
from codegraph_jax.line import watcher as module
from codegraph_jax.line.file_identity import file_key, fingerprint_of_file
from codegraph_jax.line.inspector import Inspector
from codegraph_jax.line.ledger import Ledger
from codegraph_jax.line.watcher import Folder, Watcher
from tests.line.parts import inspected_part
from tests.support.threads import running
from tests.support.waiting import wait_until


class Quick:
    """An inspector that accepts photos whose files end with `END`."""

    def __init__(self, ledger: Ledger, workdir: Path):
        self.ledger, self.workdir, self.order = ledger, workdir, []

    def inspect(self, photo, is_unfinished=lambda failed: False, replaces=0):
        if known := self.ledger.by_key(photo.key):
            return known
        good = Path(photo.path).read_bytes().endswith(b"END")
        if is_unfinished(not good):
            return None
        self.order.append(photo.name)
        part = inspected_part(photo, score=0.1, flagged=False) if good else photo.not_inspected("truncated")
        return self.ledger.record(part, replaces=replaces)

    def record_failure(self, photo, reason):
        return self.ledger.record(photo.not_inspected(reason))


@pytest.fixture
def quick(tmp_path):
    ledger = Ledger(tmp_path / "line.sqlite")
    yield Quick(ledger, tmp_path / "own")
    ledger.close()


@pytest.fixture
def place(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture(autouse=True)
def short_times(monkeypatch):
    for name, seconds in (("POLL_SECONDS", 0.05), ("SETTLE_SECONDS", 0.05), ("RETRY_SECONDS", 0.3)):
        monkeypatch.setattr(module, name, seconds)


class Counted(Folder):
    """A folder that counts its scans."""

    scans = 0

    def ready(self):
        found = super().ready()
        self.scans += 1
        return found


def wait_for_scans(watcher: Watcher, count: int = 2, wake: bool = True) -> None:
    """Waits until the folder has been scanned further times, by default at once."""
    for _ in range(count):
        before = watcher.folder.scans
        if wake:
            watcher._wake.set()
        wait_until(lambda before=before: watcher.folder.scans > before)


@contextmanager
def watching(place: Path, inspector, polls: bool = False):
    watcher = Watcher(Counted(str(place), inspector.ledger, inspector.workdir), inspector, polls=polls)
    with running(watcher.run, watcher.stop):
        yield watcher


def copy_at_once(source: Path, copy: Path) -> None:
    """Copies a file with its time, which the copy has as soon as it is in the folder."""
    shutil.copy2(source, source.parent / ".hidden")
    (source.parent / ".hidden").replace(copy)


def total(inspector) -> int:
    counts = inspector.ledger.counts()
    return counts["inspected"] + counts["not_inspected"]


@pytest.mark.parametrize("polls", [False, True])
def test_photos_are_inspected_in_the_order_of_their_time(place, quick, polls):
    for age, name in enumerate(["c.png", "deep/b.png", "a.jpg"]):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes(b"END")
        os.utime(place / name, (1000 + age, 1000 + age))
    (place / "notes.txt").write_text("no photo")
    with watching(place, quick, polls) as watcher:
        wait_until(lambda: total(quick) == 3)
        assert quick.order == ["c.png", "deep/b.png", "a.jpg"]
        (place / "new").mkdir()
        wait_for_scans(watcher)
        (place / "new" / "d.png").write_bytes(b"END")
        wait_until(lambda: total(quick) == 4)
    assert quick.ledger.latest(1)[0].name == "new/d.png"


def test_a_photo_is_inspected_after_it_is_written(place, quick, monkeypatch):
    monkeypatch.setattr(module, "RETRY_SECONDS", 5)
    with watching(place, quick) as watcher:
        with (place / "slow.png").open("wb") as stream:
            for _ in range(4):
                stream.write(b"x" * 100)
                stream.flush()
                wait_for_scans(watcher, 2, wake=False)
            assert total(quick) == 0
            stream.write(b"END")
        wait_until(lambda: total(quick) == 1)
    assert quick.ledger.latest(1)[0].status == "inspected"


def test_an_incomplete_photo_fails_once(place, quick):
    (place / "cut.png").write_bytes(b"half")
    with watching(place, quick) as watcher:
        wait_until(lambda: total(quick) == 1)
        wait_for_scans(watcher)
    assert [part.status for part in quick.ledger.latest(9)] == ["not_inspected"]


def test_a_rewritten_file_and_a_copy_are_further_parts(place, quick):
    with watching(place, quick):
        for moment in (1000, 2000):
            (place / ".hidden").write_bytes(b"END")
            os.utime(place / ".hidden", (moment, moment))
            (place / ".hidden").replace(place / "current.png")
            wait_until(lambda moment=moment: total(quick) == moment // 1000)
        copy_at_once(place / "current.png", place / "copy.png")
        wait_until(lambda: total(quick) == 3)


def test_burst_with_restarts_records_each_photo_once(place, quick, monkeypatch):
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.02)

    def burst() -> None:
        for number in range(1000):
            (place / f"{number}.png").write_bytes(b"END")

    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(burst)
        done = 0
        while done < 1000:
            with watching(place, quick):
                wait_until(lambda before=done: total(quick) >= min(before + 150, 1000))
            done = total(quick)
        written.result()
    names = [part.name for part in quick.ledger.latest(2000)]
    assert len(names) == len(set(names)) == 1000 == len(quick.order)


def test_a_photo_that_changes_during_inspection_is_inspected_as_it_is_then(place, quick):
    inspect, (first, second) = quick.inspect, (b"firstEND", b"secondEND")
    (place / "a.png").write_bytes(first)

    def changing(photo, *arguments):
        if Path(photo.path).read_bytes() == first:
            Path(photo.path).write_bytes(second)
        return inspect(photo, *arguments)

    quick.inspect = changing
    with watching(place, quick) as watcher:
        wait_until(lambda: total(quick) == 1)
        wait_for_scans(watcher)
    (part,) = quick.ledger.latest(9)
    assert part.key == file_key("a.png", (place / "a.png").stat(), fingerprint_of_file(place / "a.png"))


def test_files_written_by_the_line_are_not_inspected(place, quick):
    quick.workdir = place / "line"
    (place / "line" / "alarms").mkdir(parents=True)
    (place / "line" / "alarms" / "1.png").write_bytes(b"END")
    (place / "part.png").write_bytes(b"END")
    with watching(place, quick) as watcher:
        wait_until(lambda: total(quick) == 1)
        wait_for_scans(watcher)
    assert [part.name for part in quick.ledger.latest(9)] == ["part.png"]


def test_a_locked_ledger_is_tried_again(place, quick, monkeypatch, caplog):
    """The pauses grow up to a limit; a further photo does not shorten them, and the log has one line."""
    monkeypatch.setattr(database, "WAIT_SECONDS", 0.05)
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(module, "MAX_PAUSE_SECONDS", 0.4)
    inspect, moments = quick.inspect, []

    def noted(*arguments, **fields):
        moments.append(time.monotonic())
        if len(moments) == 3:
            (place / "b.png").write_bytes(b"END")
        return inspect(*arguments, **fields)

    quick.inspect = noted
    holder = sqlite3.connect(quick.ledger.path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    (place / "a.png").write_bytes(b"END")
    with watching(place, quick) as watcher:
        wait_until(lambda: len(moments) == 5)
        assert total(quick) == 0
        holder.execute("ROLLBACK")
        wait_until(lambda: total(quick) == 2)
        wait_for_scans(watcher)
    holder.close()
    assert all(after - before >= pause for before, after, pause in zip(moments, moments[1:], (0.1, 0.2, 0.4, 0.4)))
    assert [caplog.text.count(words) for words in ("trying again", "inspected again")] == [1, 1]


def test_a_recorded_part_ends_the_growth_of_the_pauses(place, quick, monkeypatch):
    """A ledger that is locked now and then while many photos wait."""
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.01)
    inspect, calls = quick.inspect, []

    def alternating(*arguments, **fields):
        calls.append(watcher._pause)
        if len(calls) % 2:
            raise database.LedgerUnavailableError("locked")
        return inspect(*arguments, **fields)

    quick.inspect = alternating
    for number in range(4):
        (place / f"{number}.png").write_bytes(b"END")
    watcher = Watcher(Folder(str(place), quick.ledger, quick.workdir), quick, lambda part: None, polls=True)
    with running(watcher.run, watcher.stop):
        wait_until(lambda: total(quick) == 4)
    assert calls == [0.0, 0.01] * 4


def test_a_folder_that_is_gone_for_a_while_is_waited_for(place, quick, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(database, "WAIT_SECONDS", 0.05)
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.05)
    holder = sqlite3.connect(quick.ledger.path, isolation_level=None, check_same_thread=False)
    (place / "a.png").write_bytes(b"END")
    with watching(place, quick, polls=True):
        wait_until(lambda: total(quick) == 1)
        place.rename(tmp_path / "away")
        wait_until(lambda: "trying again" in caplog.text)
        (tmp_path / "away" / "b.png").write_bytes(b"END")
        assert "locked" not in caplog.text
        holder.execute("BEGIN IMMEDIATE")
        (tmp_path / "away").rename(place)
        wait_until(lambda: "locked" in caplog.text)
        holder.execute("ROLLBACK")
        wait_until(lambda: total(quick) == 2)
        wait_until(lambda: "inspected again" in caplog.text)
    holder.close()
    assert caplog.text.count("trying again") == 2, "each problem once"


def test_a_file_that_is_open_for_writing_is_waited_for(place, quick, monkeypatch):
    """Its space is reserved, and it is written with pauses longer than the time that marks a file as complete."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    with (place / "slow.png").open("wb") as stream:
        stream.truncate(300)
        with watching(place, quick) as watcher:
            for _ in range(3):
                stream.write(b"x" * 99)
                stream.flush()
                wait_for_scans(watcher, 3, wake=False)
            assert total(quick) == 0
            stream.write(b"END")
            stream.close()
            wait_until(lambda: total(quick) == 1)
    assert [part.status for part in quick.ledger.latest(9)] == ["inspected"]


@pytest.mark.parametrize("first", [b"x" * 100, b"x" * 100 + bytes(200)])
def test_verdict_of_a_half_written_file_is_replaced(place, quick, monkeypatch, first):
    """On a network share the system does not show that a file is still being written."""
    monkeypatch.setattr(module, "is_being_written", lambda path: False)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    path = place / "slow.png"
    path.write_bytes(first)
    with watching(place, quick):
        wait_until(lambda: total(quick) == 1)
        with path.open("r+b") as stream:
            stream.write(b"T" * 8)  # the beginning of the file has the place of the rest
            stream.seek(100)
            stream.write(b"y" * 197 + b"END")
        wait_until(lambda: quick.ledger.latest(1)[0].status == "inspected")
    (part,) = quick.ledger.latest(9)
    assert part.id == 2


def test_overwritten_file_is_a_new_part(place, quick):
    path = place / "current.png"
    with watching(place, quick, polls=True):
        for number in range(3):
            with path.open("r+b" if number else "wb") as stream:
                stream.write(bytes([65 + number]) * 200 + b"END")
            wait_until(lambda number=number: total(quick) == number + 1)
    assert len(quick.ledger.latest(9)) == 3


@pytest.mark.parametrize("running", [True, False])
def test_overwritten_file_with_the_same_time_is_noticed(place, quick, monkeypatch, running):
    """Shares store times in seconds, some cameras have no clock, and photos of one camera may have equal sizes."""
    monkeypatch.setattr(module, "stamp_of", lambda status: f"{status.st_mtime_ns} {status.st_size} {status.st_ino}")
    path = place / "current.bmp"

    def write(content: bytes) -> None:
        with path.open("r+b" if path.exists() else "wb") as stream:
            stream.write(content)
        os.utime(path, (moment, moment))

    # in the future, so that the check of the file's age does not depend on the fraction of the second
    moment = int(time.time()) + 1 if running else 315532800
    monkeypatch.setattr(module, "COARSE_SECONDS", 1.5)
    with watching(place, quick, polls=running) as watcher:
        write(b"first...END")
        wait_until(lambda: total(quick) == 1)
        write(b"second..END")
        wait_until(lambda: total(quick) == 2)
        wait_for_scans(watcher)
    assert total(quick) == 2


def test_an_overwritten_file_that_gets_its_former_time_back_is_read_again(place, quick, monkeypatch):
    """The folder is scanned after the file was written and before its time was restored."""
    monkeypatch.setattr(module, "stamp_of", lambda status: f"{status.st_mtime_ns} {status.st_size} {status.st_ino}")
    path = place / "current.bmp"
    path.write_bytes(b"first...END")
    os.utime(path, (1000, 1000))
    watcher = Watcher(Folder(str(place), quick.ledger, quick.workdir), quick)
    watcher._inspect_new(1.0)
    with path.open("r+b") as stream:
        stream.write(b"second..END")
    watcher.folder.ready()
    os.utime(path, (1000, 1000))
    watcher._inspect_new(1.0)
    assert total(quick) == 2


def test_a_file_that_is_renamed_is_the_same_part(place, quick):
    for name in "abc":
        (place / f"{name}.png").write_bytes(name.encode() * 100 + b"END")
    with watching(place, quick):
        wait_until(lambda: total(quick) == 3)
        (place / "done").mkdir()
        (place / "a.png").rename(place / "x.png")
        (place / "b.png").rename(place / "done" / "b.png")
        wait_until(lambda: {"x.png", "done/b.png"} <= {part.name for part in quick.ledger.latest(9)})
        copy_at_once(place / "c.png", place / "copy.png")
        wait_until(lambda: total(quick) == 4)
    # while no watcher runs
    (place / "x.png").rename(place / "y.png")
    (place / "c.png").chmod(0o600)
    with watching(place, quick) as watcher:
        wait_until(lambda: "y.png" in {part.name for part in quick.ledger.latest(9)})
        wait_for_scans(watcher)
    assert len(quick.order) == total(quick) == 4
    names = {part.name: part for part in quick.ledger.latest(9)}
    assert names["y.png"].path == str(place / "y.png") and names["y.png"].key.startswith("y.png@")


def test_links_that_lead_out_of_the_folder_are_refused_and_reported(place, quick, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret.png").write_bytes(b"END")
    (place / "real.png").write_bytes(b"END")
    (place / "file.png").symlink_to(tmp_path / "elsewhere" / "secret.png")
    (place / "folder").symlink_to(tmp_path / "elsewhere")
    (place / "within.png").symlink_to(place / "real.png")
    with watching(place, quick):
        wait_until(lambda: total(quick) == 4)
    parts = {part.name: part for part in quick.ledger.latest(9)}
    for name in ("file.png", "folder/secret.png"):
        assert parts[name].status == "not_inspected" and "out of the watched folder" in parts[name].failure
        assert not parts[name].path
    assert parts["real.png"].status == parts["within.png"].status == "inspected"


def test_pipes_and_devices_stop_nothing(place, ledger, bank, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    os.mkfifo(place / "pipe.png")
    (place / "part.png").write_bytes(b"no photo")
    told = []
    folder = Folder(str(place), ledger, tmp_path / "own")
    watcher = Watcher(folder, Inspector(bank, ledger, tmp_path), told.append)
    for file in folder.ready():
        watcher._inspect(file)
    assert {part.name: part.status for part in told} == {"pipe.png": "not_inspected", "part.png": "not_inspected"}


def test_photos_are_inspected_with_the_bank(bank, photos, ledger, tmp_path):
    (tmp_path / "in").mkdir()
    for path in photos[:4]:
        shutil.copy2(path, tmp_path / "in")
    told = []
    folder = Folder(str(tmp_path / "in"), ledger, tmp_path / "own")
    watcher = Watcher(folder, Inspector(bank, ledger, tmp_path / "own"), told.append)
    with running(watcher.run, watcher.stop):
        wait_until(lambda: len(told) == 4, 60)
    scores = bank.anomaly_scores([str(path) for path in photos[:4]])
    by_name = {part.name: part.score for part in told}
    assert [by_name[path.name] for path in photos[:4]] == pytest.approx(scores, abs=1e-6)
