"""Results for receivers that fail, hang, refuse and return: none is lost, and no inspection waits for them."""

import hmac
import json
import os
import signal
import threading
import time
from contextlib import closing

import pytest

from codegraph_jax.core.settings import read_config
from codegraph_jax.line import outbox, sending, targets
from codegraph_jax.line.database import LedgerUnavailableError
from codegraph_jax.line.ledger import LEDGER_FILE, Ledger
from codegraph_jax.line.part import Alarm, ReceivedPhoto
from codegraph_jax.line.responses import Message
from codegraph_jax.line.settings import WatchConfig
from codegraph_jax.tasks.watch import opened_line
from tests.line.receiver import DOWN, Receiver, record, rows_of, until_empty
from tests.support.processes import start_python
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("short_pauses")


def test_each_verdict_answer_and_acknowledgement_is_sent_in_order(ledger, receiver, monkeypatch):
    monkeypatch.setenv(targets.SECRET, "a key")
    with sending.sending(ledger, [receiver.url]):
        record(ledger, "a", flagged=True)
        record(ledger, "b", alarms=(Alarm("drift", "score", "It drifts."),))
        ledger.record(ReceivedPhoto("c", "c.png", "/x/c.png").not_inspected("cut off"), replaces=1)
        ledger.answer(2, "defective", "bank")
        ledger.acknowledge(1, "a new batch", {})
        until_empty(ledger)
    messages = receiver.messages
    assert [message["event"] for message in messages] == ["part", "part", "part", "answer", "acknowledgement"] or (
        messages[0]["part"]["id"] != 1  # the row was replaced before it was sent
    )
    assert all(Message.model_validate(message) for message in messages)
    by_event = {message["event"]: message for message in messages}
    assert by_event["part"]["part"]["decision"] == "NOK" and by_event["part"]["replaces"] == 1
    assert by_event["answer"]["part"]["answer"] == "defective" and by_event["answer"]["part"]["decision"] == "OK"
    assert by_event["acknowledgement"]["alarm"]["acknowledgement"] == "a new batch"
    assert [alarm["message"] for alarm in by_event["answer"]["part"]["alarms"]] == ["It drifts."]
    for headers, body in receiver.got:
        assert headers["Idempotency-Key"] == json.loads(body)["message_id"]
        assert headers["X-Codegraph-Signature"] == "sha256=" + hmac.new(b"a key", body, "sha256").hexdigest()
        assert headers["Content-Type"] == "application/json"


def test_a_line_sends_its_results_before_it_ends(bank, photos, tmp_path, capsys):
    bank.save(str(tmp_path / "bank.safetensors"))
    table = tmp_path / "results.csv"
    values = {"bank": {"path": str(tmp_path / "bank.safetensors")}, "send": [str(table)]}
    with opened_line(read_config(WatchConfig, values), tmp_path / "line") as inspector:
        part = inspector.inspect(ReceivedPhoto("k", "a.png", str(photos[0])))
    (row,) = rows_of(table)
    assert (row["name"], float(row["score"]), row["decision"]) == ("a.png", part.score, part.decision)
    said = capsys.readouterr().out
    assert f"bank: {bank.active_references}; threshold" in said
    assert f"sending results to {table}" in said and "not delivered" not in said


def test_without_targets_nothing_is_kept(ledger):
    with sending.sending(ledger, []):
        record(ledger, "a", "b")
        assert ledger.outbox.undelivered() == []


def test_results_wait_for_a_receiver_that_is_down_and_for_the_next_start(tmp_path, receiver, capsys):
    receiver.close()
    with closing(Ledger(tmp_path / LEDGER_FILE)) as ledger:
        with sending.sending(ledger, [receiver.url]):
            record(ledger, "a", "b", "c")
            wait_until(lambda: ledger.outbox.undelivered()[0].error)
        (one,) = ledger.outbox.undelivered()
        assert (one.waiting, one.set_aside) == (3, 0) and "refused" in one.error.lower()
        said = capsys.readouterr().out
        assert f"3 results not delivered to http://127.0.0.1:{receiver.port}/results (3 waiting)" in said
        assert f". They stay in {LEDGER_FILE}; the next start with this target sends them." in said
        assert "secret" not in said, "a query may contain a token"
    again = Receiver(receiver.port)
    with closing(again), closing(Ledger(tmp_path / LEDGER_FILE)) as ledger, sending.sending(ledger, [receiver.url]):
        until_empty(ledger)
        assert again.parts() == [1, 2, 3]


def test_errors_of_the_receiver_are_tried_again_with_the_same_id(ledger, receiver, caplog):
    statuses = iter([500, DOWN, 429, 408, 503, 401, 404, 302])
    receiver.status = lambda message: next(statuses, 200)
    with sending.sending(ledger, [receiver.url]):
        record(ledger, "a")
        until_empty(ledger)
    assert len(receiver.messages) == 9 and len({message["message_id"] for message in receiver.messages}) == 1
    assert len([r for r in caplog.records if "not accepted" in r.message]) == 1, "not once for each attempt"
    assert "accepts results again" in caplog.text


@pytest.mark.parametrize(("wanted", "pause"), [("3600", 0.3), ("soon", 0.0)])
def test_a_receiver_can_set_a_pause_up_to_a_limit(ledger, receiver, monkeypatch, wanted, pause):
    monkeypatch.setattr(targets, "MAX_RETRY_SECONDS", 0.3)
    statuses, moments = iter([429, 503]), []
    receiver.headers = {"Retry-After": wanted}
    receiver.status = lambda message: (moments.append(time.monotonic()), next(statuses, 200))[1]
    with sending.sending(ledger, [receiver.url]):
        record(ledger, "a")
        until_empty(ledger)
    assert len(moments) == 3 and all(later - earlier >= pause for earlier, later in zip(moments, moments[1:]))


@pytest.mark.parametrize("status", [400, 409, 410, 413, 415, 422])
def test_refused_results_are_set_aside_until_the_user_asks(ledger, receiver, status):
    receiver.status = lambda message: status if message["part"]["id"] == 1 else 200
    with sending.sending(ledger, [receiver.url]):
        record(ledger, "a", "b")
        wait_until(lambda: len(receiver.got) == 2)
        wait_until(lambda: ledger.outbox.undelivered()[0].waiting == 0)
        (one,) = ledger.outbox.undelivered()
        assert (one.set_aside, one.parts) == (1, (1,)) and str(status) in one.error
        receiver.status = lambda message: 200
        ledger.outbox.retry()
        until_empty(ledger)
    assert receiver.parts() == [1, 2, 1] and receiver.messages[0] == receiver.messages[2]


def test_refused_results_can_be_discarded_and_a_start_tries_them_again(ledger, receiver):
    receiver.status = lambda message: 400
    for _ in range(2):
        with sending.sending(ledger, [receiver.url]):
            if not receiver.got:
                record(ledger, "a")
            wait_until(lambda: ledger.outbox.undelivered()[0].set_aside)
    assert receiver.parts() == [1, 1]
    ledger.outbox.discard()
    assert ledger.outbox.undelivered() == [] and ledger.counts()["inspected"] == 1


def test_a_result_that_always_fails_does_not_block_the_others(ledger, receiver):
    receiver.status = lambda message: 500 if message["part"]["id"] == 1 else 200
    with sending.sending(ledger, [receiver.url]):
        record(ledger, *map(str, range(12)))
        wait_until(lambda: ledger.outbox.undelivered()[0].waiting == 0)
    (one,) = ledger.outbox.undelivered()
    assert (one.set_aside, one.parts) == (1, (1,))
    assert sorted(set(receiver.parts())) == list(range(1, 13))
    assert len(receiver.parts()) - len(set(receiver.parts())) == receiver.parts().count(1) - 1, "the others once"


def test_a_long_failure_of_the_receiver_refuses_nothing(ledger, receiver):
    receiver.status = lambda message: 500
    with sending.sending(ledger, [receiver.url]):
        record(ledger, "a", "b")
        wait_until(lambda: len(receiver.got) > 4 * sending.MAX_TRIES)
        assert ledger.outbox.undelivered()[0].waiting == 2
        receiver.status = lambda message: 200
        until_empty(ledger)


def test_a_receiver_that_hangs_delays_nothing(ledger, receiver, tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "RESPONSE_SECONDS", 0.3)
    release, table = threading.Event(), tmp_path / "results.csv"
    receiver.status = lambda message: release.wait(20) and 200
    with sending.sending(ledger, [receiver.url, str(table)]):
        record(ledger, "a")
        wait_until(lambda: receiver.got)
        began = time.monotonic()
        record(ledger, *map(str, range(20)))
        assert time.monotonic() - began < 2
        wait_until(lambda: table.exists() and len(table.read_text().splitlines()) == 22)
        wait_until(lambda: ledger.outbox.undelivered()[0].error == "no answer within 0.3 s")
        release.set()
        until_empty(ledger)


CHILD = """
import sys, time
from codegraph_jax.line.ledger import Ledger
from codegraph_jax.line.sending import sending
from tests.line.parts import part
ledger = Ledger(sys.argv[1])
with sending(ledger, [sys.argv[2]]):
    for number in range(5):
        ledger.record(part(str(number), regions=()))
    time.sleep(60)
"""


def test_a_kill_in_the_middle_loses_nothing_and_repeats_with_the_same_id(tmp_path, receiver):
    child = start_python("-c", CHILD, tmp_path / LEDGER_FILE, receiver.url, JAX_PLATFORMS="cpu")
    killed = threading.Event()

    def kill_at_the_third(message):
        if message["part"]["id"] == 3 and not killed.is_set():
            wait_until(lambda: recorded() == 5)
            os.kill(child.pid, signal.SIGKILL)
            killed.set()
        return 200

    def recorded() -> int:
        with closing(Ledger(tmp_path / LEDGER_FILE)) as reader:
            return reader.counts()["inspected"]

    receiver.status = kill_at_the_third
    assert child.wait(60) == -signal.SIGKILL
    with closing(Ledger(tmp_path / LEDGER_FILE)) as ledger, sending.sending(ledger, [receiver.url]):
        until_empty(ledger)
    assert receiver.parts() == [1, 2, 3, 3, 4, 5]
    ids = [message["message_id"] for message in receiver.messages]
    assert ids[2] == ids[3] and len(set(ids)) == 5


def test_results_for_a_former_target_are_kept_until_it_is_back(ledger, receiver, capsys):
    ledger.outbox.send_to([receiver.url])
    record(ledger, "a")
    with sending.sending(ledger, []):
        record(ledger, "b")
        (one,) = ledger.outbox.undelivered()
        assert (one.set_aside, one.waiting, one.error) == (1, 0, outbox.NO_LONGER_A_TARGET)
        ledger.outbox.retry()
        assert ledger.outbox.undelivered() == [one]
    assert f"last error: {outbox.NO_LONGER_A_TARGET}" in capsys.readouterr().out
    with sending.sending(ledger, [receiver.url]):
        until_empty(ledger)
    assert receiver.parts() == [1]


def test_an_accepted_result_is_not_sent_again_while_the_ledger_cannot_be_written(ledger, receiver, monkeypatch):
    errors = iter([LedgerUnavailableError("full"), LedgerUnavailableError("full")])
    delivered = ledger.outbox.remove_delivered

    def failing(queued):
        if (error := next(errors, None)) is not None:
            raise error
        delivered(queued)

    monkeypatch.setattr(ledger.outbox, "remove_delivered", failing)
    with sending.sending(ledger, [receiver.url]):
        record(ledger, "a", "b")
        until_empty(ledger)
    assert receiver.parts() == [1, 2]
