"""A line with two thousand parts by folder and by HTTP, killed in between: every part is one row."""

import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from PIL import Image

from codegraph_jax.config import BankConfig, FeatureConfig
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.line.ledger import LEDGER_FILE, Ledger
from tests.support.networks import random_backbone, random_config
from tests.support.processes import start_python
from tests.support.waiting import wait_until

PARTS, KILLS, VARIETY = 2000, 4, 40
GROWTH = 1.05
"""Memory after the second half, relative to that after the first."""


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bank") / "parts.safetensors"
    config = random_config(
        backbone=random_backbone(image_size=28, blocks=(0, 1)),
        features=FeatureConfig(degrees=(1,)),
        bank=BankConfig(kind="compact", patch_count=32),
    )
    made = CoDeGraph(config).detect(list(draw_set(12, 56, 3, 0.2, ()).images), bank=config.bank).bank
    assert made
    made.save(str(path))
    return path


@pytest.fixture(scope="module")
def photo_files(tmp_path_factory) -> list[bytes]:
    home = tmp_path_factory.mktemp("photos")
    contents = []
    for number, image in enumerate(draw_set(VARIETY, 56, 9, 0.1, (0.1,)).images):
        Image.fromarray(image).save(home / f"{number}.png")
        contents.append((home / f"{number}.png").read_bytes())
    return contents


class LineProcess:
    """A process of the task, started again after each kill."""

    def __init__(self, workdir: Path, *flags: str):
        self.workdir, self.flags = workdir, flags
        self.address = ""
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        self.process = start_python("main.py", *self.flags, f"--workdir={self.workdir}", JAX_PLATFORMS="cpu")
        assert self.process.stdout and self.process.stderr
        for line in self.process.stdout:
            if "; end with Ctrl+C" in line:
                self.address = line.split()[2].rstrip(";")
                break
        else:
            pytest.fail(f"the line has not started: {self.process.stderr.read()[-3000:]}")
        # the output must be read, or the process would block
        threading.Thread(target=self.process.communicate, daemon=True).start()

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def memory(self) -> int:
        assert self.process
        return psutil.Process(self.process.pid).memory_info().rss

    def count(self) -> int:
        try:
            ledger = Ledger(self.workdir / LEDGER_FILE)
        except ValueError:
            return 0
        try:
            counts = ledger.counts()
            return counts["inspected"] + counts["not_inspected"]
        finally:
            ledger.close()

    def wait_for(self, count: int) -> None:
        wait_until(lambda: self.count() >= count, 300, f"{count} parts are recorded", pause=0.1)


def check(line: LineProcess, names: list[str]) -> None:
    """Every part is one row, with the reason if it was not inspected."""
    ledger = Ledger(line.workdir / LEDGER_FILE)
    parts = ledger.latest(10**6)
    assert sorted(part.name for part in parts) == sorted(names)
    assert len({part.key for part in parts}) == PARTS
    others = [part for part in parts if part.status == "not_inspected"]
    assert len(others) == PARTS // 100 and all(part.failure for part in others)
    assert ledger.inbox() == []
    # the monitors have counted each passed part once
    passed = sum(part.flagged is False for part in parts)
    state = ledger.state("drift")["brightness"]
    assert state["seen"] == passed or state["resets"][-1] > 0
    ledger.close()


def content(number: int, photo_files: list[bytes]) -> bytes:
    """The photo of a part; one in a hundred is cut off."""
    data = photo_files[number % VARIETY]
    return data[: len(data) // 2] if number % 100 == 7 else data


@pytest.mark.slow
def test_two_thousand_parts_come_into_a_folder(bank, photo_files, tmp_path):
    place = tmp_path / "in"
    place.mkdir()
    names = [f"{number:04d}.png" for number in range(PARTS)]

    def fill(first: int, last: int, pause: float) -> None:
        for number in range(first, last):
            (place / names[number]).write_bytes(content(number, photo_files))
            time.sleep(pause)

    settings = tmp_path / "watch.py"
    settings.write_text(
        "from codegraph_jax.line.settings import WatchConfig\ndef get_config():\n    return WatchConfig()\n"
    )
    line = LineProcess(
        tmp_path / "line", f"--config={settings}", f"--config.bank.path={bank}", f"--config.watch.root={place}"
    )
    half = PARTS // 2
    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(fill, 0, half, 0.01)
        for number in range(KILLS):
            line.start()
            line.wait_for(half * (number + 1) // (KILLS + 1))
            line.kill()
        writer.result()
    line.start()
    line.wait_for(half)
    first = line.memory()
    fill(half, PARTS, 0.0)  # a burst
    line.wait_for(PARTS)
    assert line.memory() <= GROWTH * first
    assert line.end() == 0
    check(line, names)


@pytest.mark.slow
def test_two_thousand_parts_are_sent(bank, photo_files, tmp_path):
    settings = tmp_path / "server.py"
    settings.write_text(
        "from codegraph_jax.line.settings import ServeConfig\ndef get_config():\n    return ServeConfig()\n"
    )
    line = LineProcess(tmp_path / "line", f"--config={settings}", f"--config.bank.path={bank}", "--config.serve.port=0")

    def send(number: int) -> None:
        """Sends a photo until a response arrives, like a client that must not lose a part."""
        for _ in range(3000):
            request = urllib.request.Request(
                f"{line.address}/parts?name={number:04d}.png",
                content(number, photo_files),
                {"Idempotency-Key": str(number), "Content-Type": "image/png"},
            )
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:
                    assert answer.status == 200
                return
            except urllib.error.HTTPError as error:
                if error.code == 422:
                    return
                assert error.code == 503, error.read()
            except OSError:  # killed: the server is down, or ended during the inspection
                pass
            time.sleep(0.1)
        pytest.fail(f"part {number} was never inspected")

    def send_all(first: int, last: int) -> None:
        for number in range(first, last):
            send(number)

    half = PARTS // 2
    line.start()
    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(send_all, k * half // 4, (k + 1) * half // 4) for k in range(4)]
        for number in range(KILLS):
            line.wait_for(half * (number + 1) // (KILLS + 1))
            line.kill()
            line.start()
        for client in clients:
            client.result()
    assert line.count() == half
    send_all(half, half + 100)
    first = line.memory()
    send_all(half + 100, PARTS)
    assert line.memory() <= GROWTH * first
    assert line.end() == 0
    check(line, [f"{number:04d}.png" for number in range(PARTS)])
