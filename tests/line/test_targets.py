"""Tables, webhooks and brokers that receive the results of a line."""

import json
import socket
import sys
import threading
from contextlib import contextmanager

import pytest

from codegraph_jax.core.settings import ConfigError, read_config
from codegraph_jax.line import sending, targets
from codegraph_jax.line.part import Alarm
from codegraph_jax.line.responses import Message
from codegraph_jax.line.settings import ServeConfig
from codegraph_jax.line.targets import DeliveryError, open_target
from tests.line.receiver import record, rows_of, until_empty
from tests.support.processes import free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("short_pauses")


def test_a_table_gets_one_row_for_each_result(ledger, tmp_path):
    path = tmp_path / "results.csv"
    with sending.sending(ledger, [str(path)]):
        record(ledger, "=1+1", flagged=True)
        until_empty(ledger)
        path.rename(tmp_path / "taken.csv")
        record(ledger, "b", alarms=(Alarm("drift", "score", "It drifts."),))
        ledger.answer(2, "good", "bank")
        ledger.acknowledge(1, "a new batch", {})
        until_empty(ledger)
    (first,) = rows_of(tmp_path / "taken.csv")
    assert (first["id"], first["decision"], first["name"], first["replaces"]) == ("1", "NOK", "'=1+1.png", "")
    assert [(row["event"], row["id"], row["answer"]) for row in rows_of(path)][-1] == ("answer", "2", "good")
    assert len(rows_of(path)) == 2, "acknowledgements are not rows"


def test_an_interrupted_row_is_completed_and_a_complete_one_not_repeated(ledger, tmp_path):
    path = tmp_path / "results.csv"
    ledger.outbox.send_to([str(path)])
    record(ledger, "a", "b")
    first, target = ledger.outbox.next(str(path)), open_target(str(path))
    body = sending.message(ledger, first)
    target.deliver(first.message_id, body)
    whole = path.read_bytes()
    target.deliver(first.message_id, body)
    assert path.read_bytes() == whole
    for cut in (len(whole) - 1, len(whole) - 30, whole.index(b"\n") + 5, 12, 0):
        path.write_bytes(whole[:cut])
        target.deliver(first.message_id, body)
        assert path.read_bytes() == whole
    # another program removed the last line end: the row stays
    path.write_bytes(whole.rstrip())
    target.deliver("f" * 32, body.replace(first.message_id, "f" * 32))
    assert [row["message_id"] for row in rows_of(path)] == [first.message_id, "f" * 32]


def test_a_table_that_cannot_be_written_keeps_the_results_waiting(ledger, tmp_path):
    path = tmp_path / "share" / "results.csv"
    with sending.sending(ledger, [str(path)]):
        record(ledger, "a")
        wait_until(lambda: "No such file" in ledger.outbox.undelivered()[0].error)
        path.parent.mkdir()
        until_empty(ledger)
    assert len(rows_of(path)) == 1


def test_another_table_is_not_mixed_with_results(ledger, tmp_path):
    path = tmp_path / "parts.csv"
    path.write_text("id,name\n")
    with sending.sending(ledger, [str(path)]):
        record(ledger, "a")
        wait_until(lambda: "holds another table" in ledger.outbox.undelivered()[0].error)
    assert path.read_text() == "id,name\n" and ledger.outbox.undelivered()[0].waiting == 1


def test_secrets_of_addresses_are_not_shown():
    assert targets.without_secrets("https://host/hook?key=abc") == "https://host/hook"
    assert (
        targets.without_secrets("https://hooks.example/T0/B0/abcdefghijklmnopqrst") == "https://hooks.example/T0/B0/..."
    )
    assert targets.without_secrets("mqtts://broker/plant/line1") == "mqtts://broker/plant/line1"
    with pytest.raises(ValueError, match=r"^'host:abc/'") as raised:
        open_target("https://user:hidden@host:abc/")
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ftp://host/x", "https://"), ("file:///etc/passwd", "https://"), ("results.txt", ".csv"),
        ("https://user:hidden@host/x", targets.MQTT_PASSWORD), ("mqtt://host", "topic"), ("mqtt://host/a/%23", "topic"),
        ("http://host:99999/", "Port"), ("http:///x", "host"), ("http://host/a b", "spaces"), ("http://host/#x", "#"),
        ("http://host/a\r\nX-Header: 1", "spaces"), ("mqtt://host/t?x=1", "topic"),
        ("caf\udce9.csv", "UTF-8"),
    ],
)  # fmt: skip
def test_invalid_targets_are_refused_at_the_start(text, reason):
    with pytest.raises(ConfigError, match=r"^config\.send: ") as raised:
        read_config(ServeConfig, {"send": [text]})
    assert reason in str(raised.value) and "hidden" not in str(raised.value)


def test_certificates_are_checked(receiver):
    assert open_target("https://host/x").tls.check_hostname
    with pytest.raises(DeliveryError, match="(?i)ssl") as raised:
        open_target(receiver.url.replace("http:", "https:")).deliver("a", "{}")
    assert not raised.value.refused and not receiver.got


@contextmanager
def broker(port: int, **users: str):
    """A broker in a thread of its own."""
    import asyncio

    from amqtt.broker import Broker

    plugin = "amqtt.plugins.authentication.AnonymousAuthPlugin"
    plugins = {plugin: {"allow_anonymous": not users}}
    loop, started = asyncio.new_event_loop(), threading.Event()

    async def start() -> Broker:
        made = Broker({"listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}}, "plugins": plugins})
        await made.start()
        started.set()
        return made

    running: list[Broker] = []
    thread = threading.Thread(target=lambda: (running.append(loop.run_until_complete(start())), loop.run_forever()))
    thread.start()
    assert started.wait(20)
    wait_until(lambda: running)
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(running[0].shutdown(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


def test_a_broker_gets_each_result_also_after_it_was_away(ledger):
    mqtt = pytest.importorskip("paho.mqtt.client")
    port = free_port()
    url, got = f"mqtt://127.0.0.1:{port}/plant/line%201", []
    with sending.sending(ledger, [url]):
        record(ledger, "a")
        wait_until(lambda: ledger.outbox.undelivered()[0].error)
        with broker(port):
            reader = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
            subscribed = threading.Event()
            reader.on_subscribe = lambda *arguments: subscribed.set()
            reader.on_message = lambda client, data, message: got.append((message.topic, json.loads(message.payload)))
            reader.connect("127.0.0.1", port)
            reader.loop_start()
            reader.subscribe("plant/#", qos=1)
            assert subscribed.wait(20)
            record(ledger, "b")
            until_empty(ledger)
            record(ledger, "c")
            wait_until(lambda: "3" in {str(message["part"]["id"]) for _, message in got})
            reader.disconnect()
            reader.loop_stop()
    assert {topic for topic, _ in got} == {"plant/line 1"}
    assert {2, 3} <= {message["part"]["id"] for _, message in got}
    assert all(Message.model_validate(message) for _, message in got)


def test_a_broker_that_refuses_the_login_or_is_silent_keeps_the_results_waiting(ledger, monkeypatch):
    pytest.importorskip("paho.mqtt.client")
    monkeypatch.setattr(targets, "RESPONSE_SECONDS", 0.5)
    port = free_port()
    target = open_target(f"mqtt://127.0.0.1:{port}/t")
    with broker(port, somebody="x"), pytest.raises(DeliveryError, match="refuses the login") as raised:
        target.deliver("a", "{}")
    assert not raised.value.refused
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(DeliveryError, match="not answer"):
        open_target(f"mqtt://127.0.0.1:{silent.getsockname()[1]}/t").deliver("a", "{}")


def test_a_missing_package_is_named_before_the_start(ledger, monkeypatch):
    monkeypatch.setitem(sys.modules, "paho.mqtt", None)
    with (
        pytest.raises(targets.MissingPackageError, match=r"paho-mqtt.*install"),
        sending.sending(ledger, ["mqtt://h/t"]),
    ):
        pass
