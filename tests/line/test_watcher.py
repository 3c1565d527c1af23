"""A watched folder: every picture once, when it is whole, in the order in which they came."""

import os
import shutil
import sqlite3
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from codegraph_jax.line import ledger as ledger_module
from codegraph_jax.line import watcher as module
from codegraph_jax.line.inspector import Inspector
from codegraph_jax.line.ledger import Ledger
from codegraph_jax.line.part import Part, content_of_file, file_key
from codegraph_jax.line.settings import FolderSettings
from codegraph_jax.line.watcher import Folder, Watcher


class Quick:
    """An inspector that looks at nothing but whether a file begins as a PNG."""

    def __init__(self, ledger: Ledger, workdir: Path):
        self.ledger, self.workdir, self.order = ledger, workdir, []

    def judge(self, key, name, path, give_up=lambda failed: False, replaces=0, **identity):
        if known := self.ledger.find(key):
            return known
        good = Path(path).read_bytes().endswith(b"END")
        if give_up(not good):
            return None
        self.order.append(name)
        status, reason = ("judged", "") if good else ("failed", "truncated")
        part = Part(key, name, path, "t", "t", status, reason, score=0.1, flagged=False, **identity)
        return self.ledger.record(part, replaces=replaces)

    def fail(self, key, name, path, reason, look):
        return self.ledger.record(Part(key, name, path, "t", "t", "failed", reason, look=look))


@pytest.fixture
def quick(tmp_path):
    ledger = Ledger(tmp_path / "line.sqlite")
    yield Quick(ledger, tmp_path / "own")
    ledger.close()


@pytest.fixture
def place(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def settings(place: Path, **fields) -> FolderSettings:
    return FolderSettings(**{"root": str(place), "interval": 0.05, "settle": 0.05, "patience": 0.3} | fields)


@contextmanager
def watching(place: Path, inspector, **fields):
    watcher = Watcher(Folder(settings(place, **fields), inspector.ledger, inspector.workdir), inspector)
    thread = threading.Thread(target=watcher.run)
    thread.start()
    try:
        yield watcher
    finally:
        watcher.stop()
        thread.join(20)
        assert not thread.is_alive()


def wait_for(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.02)


def total(inspector) -> int:
    counts = inspector.ledger.count()
    return counts["judged"] + counts["failed"]


@pytest.mark.parametrize("events", ["auto", "poll"])
def test_pictures_are_judged_in_the_order_of_their_time(place, quick, events):
    for age, name in enumerate(["c.png", "deep/b.png", "a.jpg"]):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes(b"END")
        os.utime(place / name, (1000 + age, 1000 + age))
    (place / "notes.txt").write_text("no picture")
    with watching(place, quick, events=events):
        wait_for(lambda: total(quick) == 3)
        assert quick.order == ["c.png", "deep/b.png", "a.jpg"]
        (place / "new").mkdir()
        time.sleep(0.1)
        (place / "new" / "d.png").write_bytes(b"END")
        wait_for(lambda: total(quick) == 4)
    assert quick.ledger.latest(1)[0].name == "new/d.png"


def test_a_picture_that_is_still_being_written_is_waited_for(place, quick):
    with watching(place, quick, patience=5):
        with (place / "slow.png").open("wb") as stream:
            for _ in range(8):
                stream.write(b"x" * 100)
                stream.flush()
                time.sleep(0.1)
            stream.write(b"END")
        wait_for(lambda: total(quick) == 1)
    assert quick.ledger.latest(1)[0].status == "judged"


def test_a_picture_that_stays_cut_fails_once(place, quick):
    (place / "cut.png").write_bytes(b"half")
    with watching(place, quick):
        wait_for(lambda: total(quick) == 1)
        time.sleep(0.3)
    assert [part.status for part in quick.ledger.latest(9)] == ["failed"]


def test_a_name_that_is_written_anew_is_another_part_and_a_copy_too(place, quick):
    with watching(place, quick):
        for moment in (1000, 2000):
            (place / ".hidden").write_bytes(b"END")
            os.utime(place / ".hidden", (moment, moment))
            (place / ".hidden").replace(place / "current.png")
            wait_for(lambda moment=moment: total(quick) == moment // 1000)
        shutil.copy2(place / "current.png", place / "copy.png")
        wait_for(lambda: total(quick) == 3)


def test_a_burst_with_restarts_loses_nothing_and_judges_nothing_twice(place, quick):
    def burst(first: int) -> None:
        for number in range(first, first + 250):
            (place / f"{number}.png").write_bytes(b"END")

    writer = threading.Thread(target=lambda: [burst(first) for first in range(0, 1000, 250)])
    writer.start()
    done = 0
    while done < 1000:
        with watching(place, quick, settle=0.02):
            wait_for(lambda before=done: total(quick) > before)
            time.sleep(0.3)
        done = total(quick)
    writer.join()
    names = [part.name for part in quick.ledger.latest(2000)]
    assert len(names) == len(set(names)) == 1000 == len(quick.order)


def test_a_picture_that_changes_while_it_is_judged_is_judged_as_it_is_then(place, quick):
    judge, (first, second) = quick.judge, (b"firstEND", b"secondEND")
    (place / "a.png").write_bytes(first)

    def changing(key, name, path, give_up, **identity):
        if Path(path).read_bytes() == first:
            Path(path).write_bytes(second)
        return judge(key, name, path, give_up, **identity)

    quick.judge = changing
    with watching(place, quick):
        wait_for(lambda: total(quick) == 1)
        time.sleep(0.2)
    (part,) = quick.ledger.latest(9)
    assert part.key == file_key("a.png", (place / "a.png").stat(), content_of_file(place / "a.png"))


def test_what_the_line_itself_writes_is_no_part(place, quick):
    quick.workdir = place / "line"
    (place / "line" / "alarms").mkdir(parents=True)
    (place / "line" / "alarms" / "1.png").write_bytes(b"END")
    (place / "part.png").write_bytes(b"END")
    with watching(place, quick):
        wait_for(lambda: total(quick) == 1)
        time.sleep(0.2)
    assert [part.name for part in quick.ledger.latest(9)] == ["part.png"]


def test_a_ledger_that_somebody_holds_is_tried_again(place, quick, monkeypatch):
    monkeypatch.setattr(ledger_module, "WAIT_SECONDS", 0.05)
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.05)
    holder = sqlite3.connect(quick.ledger.path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    (place / "a.png").write_bytes(b"END")
    with watching(place, quick):
        time.sleep(0.5)
        assert total(quick) == 0
        holder.execute("ROLLBACK")
        wait_for(lambda: total(quick) == 1)
    holder.close()


def test_a_folder_that_is_gone_for_a_while_is_waited_for(place, quick, tmp_path):
    (place / "a.png").write_bytes(b"END")
    with watching(place, quick, events="poll"):
        wait_for(lambda: total(quick) == 1)
        place.rename(tmp_path / "away")
        time.sleep(0.3)
        (tmp_path / "away" / "b.png").write_bytes(b"END")
        (tmp_path / "away").rename(place)
        wait_for(lambda: total(quick) == 2)


def test_pictures_are_judged_by_the_bank(bank, photographs, ledger, tmp_path):
    (tmp_path / "in").mkdir()
    for path in photographs[:4]:
        shutil.copy2(path, tmp_path / "in")
    told = []
    folder = Folder(settings(tmp_path / "in"), ledger, tmp_path / "own")
    watcher = Watcher(folder, Inspector(bank, ledger, tmp_path / "own"), told.append)
    thread = threading.Thread(target=watcher.run)
    thread.start()
    wait_for(lambda: len(told) == 4, 60)
    watcher.stop()
    thread.join()
    scores = bank.score_samples([str(path) for path in photographs[:4]])
    by_name = {part.name: part.score for part in told}
    assert [by_name[path.name] for path in photographs[:4]] == pytest.approx(scores, abs=1e-6)
