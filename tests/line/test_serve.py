"""The task `serve`: how it ends, and photos that it does not decode."""

import io
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import httpx
import pytest
import uvicorn

from codegraph_jax.core.output import steady_output
from codegraph_jax.line.app import create_app
from codegraph_jax.line.connections import server_of
from codegraph_jax.line.inspector import Inspector
from codegraph_jax.line.monitors import MonitoredPart
from codegraph_jax.line.part import ReceivedPhoto
from codegraph_jax.line.settings import ServeConfig, WebConfig
from codegraph_jax.line.uploads import Uploads
from codegraph_jax.tasks import serve, watch
from codegraph_jax.tasks.watch import most_megapixels, stopped_by_signals
from tests.line.parts import inspected_part
from tests.support.threads import serving
from tests.support.waiting import wait_until


class Failing:
    """A watcher that fails, or one that runs until it is stopped."""

    def __init__(self, error: BaseException | None):
        self.error, self.stopped = error, threading.Event()

    def run(self) -> None:
        if self.error:
            raise self.error
        self.stopped.wait(20)

    def stop(self) -> None:
        self.stopped.set()


def test_a_watcher_that_dies_ends_the_server_with_its_error():
    """After exit status 0 no supervisor would start it again."""
    server = SimpleNamespace(should_exit=False)
    with pytest.raises(RuntimeError, match="broken"), serve._watching(Failing(RuntimeError("broken")), server):
        wait_until(lambda: server.should_exit)
    with serve._watching(Failing(None), SimpleNamespace(should_exit=False)) as nothing:
        assert nothing is None
    with serve._watching(None, server):
        pass


def test_a_signal_between_two_steps_ends_the_server(saved_line, monkeypatch):
    """The signal comes after the message that the server listens, and before its own handler is set."""
    ran = []

    def interrupted(text: str, **_: object) -> None:
        if "listening" in text:
            os.kill(os.getpid(), signal.SIGTERM)

    def run(server, sockets):
        ran.append(server.should_exit)

    monkeypatch.setattr("builtins.print", interrupted)
    monkeypatch.setattr(uvicorn.Server, "run", run)
    serve.run(*saved_line)
    assert ran == [True]


@pytest.fixture
def saved_line(inspector, monkeypatch, tmp_path):
    @contextmanager
    def opened(config, workdir):
        yield inspector

    monkeypatch.setattr(serve, "opened_line", opened)
    return ServeConfig(serve=WebConfig(port=0)), str(tmp_path)


def test_parts_of_an_earlier_start_end_with_a_signal_too(inspector, photos):
    uploads = Uploads(inspector, WebConfig())
    for number, path in enumerate(photos[:3]):
        inspector.ledger.add_to_inbox(ReceivedPhoto(f"request:{number}", path.name, str(path)))
    stopped = threading.Event()
    inspect, uploads.inspect = uploads.inspect, lambda photo: (inspect(photo), stopped.set())
    with stopped_by_signals(stopped.set):
        assert uploads.catch_up(stopped.is_set) == 1
    assert len(inspector.ledger.inbox()) == 2


@pytest.mark.parametrize(
    ("largest", "megapixels"),
    [(0, 179.0), (64 * 64, 8.0), (5_000_000, 20.0), (100_000_000, 179.0), (250_000_000, 250.0)],
)
def test_line_limits_the_size_of_photos(bank, largest, megapixels):
    """A photo of 34 bytes may claim 179 megapixels, which takes half a minute and eight gigabytes to decode."""
    assert most_megapixels(replace(bank, max_photo_pixels=largest)) == megapixels


def test_the_bank_stores_the_size_of_its_largest_photo(bank, tmp_path):
    assert bank.max_photo_pixels == 56 * 56
    bank.save(str(tmp_path / "bank.safetensors"))
    assert type(bank).load(str(tmp_path / "bank.safetensors")).max_photo_pixels == 56 * 56


def test_printing_of_a_part_survives_any_name(inspector, photos, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    steady_output()
    watch.print_part(inspector.inspect(ReceivedPhoto("k", "Ω\udcff\u202e.png", str(photos[0]))))
    watch.print_part(inspector.record_failure(ReceivedPhoto("f", "Ω.png", ""), "größer"))


def test_requests_in_flight_are_answered_before_the_end(bank, ledger, photos, tmp_path, monkeypatch):
    """All received parts are inspected after a supervisor's signal."""
    inspector, release = Inspector(bank, ledger, tmp_path), threading.Event()

    def held_back(photo):
        release.wait(20)
        return MonitoredPart(inspected_part(photo))

    monkeypatch.setattr(inspector, "_read_and_score", held_back)
    server = server_of(create_app(inspector, WebConfig()), grace_seconds=30, header_seconds=5)
    data = photos[0].read_bytes()
    with serving(server) as address, httpx.Client(timeout=30) as http, ThreadPoolExecutor(30) as pool:
        answers = [pool.submit(http.post, f"{address}/parts", content=data) for _ in range(30)]
        wait_until(lambda: len(ledger.inbox()) == 30)
        server.should_exit = True
        wait_until(lambda: not any(one.is_serving() for one in server.servers), description="the server ends")
        release.set()
        assert [answer.result().status_code for answer in answers] == [200] * 30
    assert ledger.counts()["inspected"] == 30 and not ledger.inbox()
