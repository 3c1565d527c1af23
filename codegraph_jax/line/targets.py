"""Where a line sends its results: webhooks (HTTP), MQTT topics and CSV files.

A target is given by its address: `http://` or `https://` for a webhook, `mqtt://` or `mqtts://` for a topic of a
broker, and a path that ends in `.csv` for a file. Secrets are read from the environment, since command lines can be
seen by every user of a computer.
"""

import csv
import hmac
import http.client
import io
import json
import os
import re
import ssl
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from queue import Empty, Queue
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from codegraph_jax.core.errors import MissingPackageError
from codegraph_jax.core.names import printable, table_cell

SECRET, MQTT_USER, MQTT_PASSWORD = "CODEGRAPH_SEND_SECRET", "CODEGRAPH_MQTT_USER", "CODEGRAPH_MQTT_PASSWORD"
"""Environment variables: the key of the signature of webhooks, and the login at the broker."""
RESPONSE_SECONDS = 10.0
"""Time that a receiver has for each response."""
PORTS = {"http": 80, "https": 443, "mqtt": 1883, "mqtts": 8883}
REFUSED = (400, 409, 410, 413, 415, 422)
"""Statuses that refuse the message itself; others concern the address, the login or the moment and are tried again."""
MAX_RETRY_SECONDS = 3600
"""Longest wait that the Retry-After header of a receiver can set."""
COLUMNS = (
    "message_id", "event", "id", "replaces", "key", "name", "decision", "verdict", "answer", "score", "threshold",
    "failure", "inspected_at", "path",
)  # fmt: skip
"""Columns of a CSV file: fields of the message and of its part."""
HEADING = ",".join(COLUMNS).encode()
TAIL_BYTES = 2**16
"""End of a CSV file in which the last row is searched for."""


class DeliveryError(Exception):
    """A target has not accepted a message.

    Attributes:
        refused: whether it would refuse the same message again.
        retry_after: seconds until the next attempt that the receiver has asked for.
    """

    def __init__(self, reason: str, refused: bool = False, retry_after: int = 0):
        super().__init__(reason)
        self.refused, self.retry_after = refused, retry_after


class Target(ABC):
    """Receives results, from one thread."""

    @abstractmethod
    def deliver(self, message_id: str, body: str) -> None:
        """Sends a message and waits until the receiver has it.

        Args:
            message_id: identifies the message; the same for each attempt.
            body: `responses.Message` as JSON.

        Raises:
            DeliveryError: the receiver does not have it, or has not confirmed it.
        """

    def close(self) -> None:  # noqa: B027
        """Closes connections."""


def require_targets(addresses: Iterable[str]) -> None:
    """Checks the addresses of targets.

    Raises:
        ValueError: an address is not one of a target, with the reason.
    """
    for address in addresses:
        _kind(address)


def without_secrets(address: str) -> str:
    """An address for messages, without parts that may be secrets: its query, and long names in its path."""
    scheme, separator, rest = address.partition("?")[0].partition("://")
    return printable(scheme + separator + re.sub(r"(?<=/)[^/]{16,}", "...", rest))


def open_target(address: str) -> Target:
    """The target of an address; nothing is connected yet.

    Raises:
        ValueError: as for `require_targets`.
        MissingPackageError: MQTT needs a package that is not installed.
    """
    kind = _kind(address)
    if kind == "csv":
        return CsvFile(Path(address).expanduser())
    return Webhook(urlsplit(address)) if kind == "http" else MqttTopic(urlsplit(address))


def _kind(address: str) -> str:
    """`http`, `mqtt` or `csv`."""
    if "://" not in address:
        try:
            address.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{printable(address)!r}: the name is not valid UTF-8; name another file") from None
        if address.lower().endswith(".csv"):
            return "csv"
        raise ValueError(
            f"{address!r} is neither an address (http://, https://, mqtt://, mqtts://) nor the name of a .csv file"
        )
    try:
        url = urlsplit(address)
        port = url.port
    except ValueError as error:
        raise ValueError(f"{without_secrets(address).rpartition('@')[2]!r} is not an address ({error})") from None
    name = without_secrets(address)
    if url.scheme not in PORTS:
        raise ValueError(f"{name!r}: results are sent to http://, https://, mqtt://, mqtts:// or a .csv file")
    if "@" in url.netloc:
        raise ValueError(
            f"{url.scheme}://{url.netloc.rpartition('@')[2]}: has a user or a password in it, which others could "
            f"see; for a broker, set {MQTT_USER} and {MQTT_PASSWORD} in the environment"
        )
    if not url.hostname or port == 0 or not re.fullmatch(r"[!-~]+", address) or "#" in address:
        raise ValueError(f"{name!r}: needs a host, and no spaces, fragment (#) or characters that are not ASCII")
    if url.scheme.startswith("mqtt"):
        topic = _topic(url)
        if url.query or not topic or len(topic.encode()) > 65_535 or set(topic) & set("+#\0"):
            raise ValueError(f"{name!r}: needs a topic without + or #, as in mqtt://{url.netloc}/line1/parts")
    return url.scheme.removesuffix("s")


def _topic(url: SplitResult) -> str:
    return unquote(url.path.removeprefix("/"))


def _tls(url: SplitResult) -> ssl.SSLContext | None:
    """Checks certificates against those of the system (or of SSL_CERT_FILE); None without TLS."""
    return ssl.create_default_context() if url.scheme in ("https", "mqtts") else None


class Webhook(Target):
    """Sends each message as the body of a POST request; redirects are not followed.

    Args:
        url: the address.
    """

    def __init__(self, url: SplitResult):
        self.host, self.port = url.hostname or "", url.port or PORTS[url.scheme]
        self.path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        self.tls, self.secret = _tls(url), os.environ.get(SECRET, "").encode()

    def deliver(self, message_id: str, body: str) -> None:
        """See `Target.deliver`."""
        data = body.encode()
        headers = {"Content-Type": "application/json", "User-Agent": "codegraph", "Idempotency-Key": message_id}
        if self.secret:
            headers["X-Codegraph-Signature"] = f"sha256={hmac.digest(self.secret, data, 'sha256').hex()}"
        secure = partial(http.client.HTTPSConnection, context=self.tls)
        connect = secure if self.tls else http.client.HTTPConnection
        connection = connect(self.host, self.port, timeout=RESPONSE_SECONDS)
        try:
            connection.request("POST", self.path, data, headers)
            response = connection.getresponse()
            if 200 <= response.status < 300:
                return
            text = " ".join(response.read(300).decode("utf-8", "replace").split())
        except (OSError, http.client.HTTPException) as error:
            raise DeliveryError(_reason(error)) from None
        finally:
            connection.close()
        if 300 <= response.status < 400:
            raise DeliveryError(f"status {response.status}: redirects are not followed; give the final address")
        reason = f"status {response.status}: {printable(text)}".removesuffix(": ")
        wanted = re.fullmatch("[0-9]{1,9}", response.headers.get("Retry-After", ""))
        raise DeliveryError(reason, response.status in REFUSED, min(int(wanted[0]), MAX_RETRY_SECONDS) if wanted else 0)


class MqttTopic(Target):
    """Publishes each message to a topic of a broker with QoS 1 (MQTT 3.1.1).

    Args:
        url: the broker, with the topic as path.

    Raises:
        MissingPackageError: paho-mqtt is not installed.
    """

    def __init__(self, url: SplitResult):
        try:
            from paho.mqtt import client, enums
        except ImportError:
            raise MissingPackageError("sending to a broker", "paho-mqtt", "mqtt") from None
        self._new_client = partial(client.Client, enums.CallbackAPIVersion.VERSION2)
        self.topic = _topic(url)
        self.host, self.port, self.tls = url.hostname or "", url.port or PORTS[url.scheme], _tls(url)
        self._client: Any = None

    def deliver(self, message_id: str, body: str) -> None:
        """See `Target.deliver`."""
        try:
            if self._client is None:
                self._client = self._connect()
            sent = self._client.publish(self.topic, body.encode(), qos=1)
            sent.wait_for_publish(RESPONSE_SECONDS)
            if not sent.is_published():
                raise DeliveryError(f"the broker has not confirmed the message within {RESPONSE_SECONDS:g} s")
        except Exception as error:  # paho raises errors of several kinds
            self.close()
            raise error if isinstance(error, DeliveryError) else DeliveryError(_reason(error)) from None

    def _connect(self) -> Any:
        """A client that is logged in."""
        client = self._new_client()
        client.connect_timeout = RESPONSE_SECONDS
        if user := os.environ.get(MQTT_USER):
            client.username_pw_set(user, os.environ.get(MQTT_PASSWORD))
        if self.tls:
            client.tls_set_context(self.tls)
        reasons: Queue[Any] = Queue()
        client.on_connect = lambda client, data, flags, reason, properties: reasons.put(reason)
        client.connect(self.host, self.port)
        client.loop_start()
        try:
            reason = reasons.get(timeout=RESPONSE_SECONDS)
            if not reason.is_failure:
                return client
            refusal = f"the broker refuses the login ({reason})"
        except Empty:
            refusal = "the broker does not answer"
        client.disconnect()
        client.loop_stop()
        raise DeliveryError(refusal)

    def close(self) -> None:
        """Disconnects; a message that was not confirmed is not sent again by this connection."""
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None


class CsvFile(Target):
    """Appends a row for each message about a part; acknowledged alarms are left out.

    A row is written at once and synchronised to disk. After a power cut, an incomplete row is replaced, and a
    complete one is not written again.

    Args:
        path: the file; it gets a heading if it is new, also after another program has moved it away.
    """

    def __init__(self, path: Path):
        self.path = path

    def deliver(self, message_id: str, body: str) -> None:
        """See `Target.deliver`."""
        message = json.loads(body)
        if message["part"] is None:
            return
        cells = message["part"] | {name: message[name] for name in ("message_id", "event", "replaces")}
        row = {name: table_cell(cell) if isinstance(cell, str) else cell for name, cell in cells.items()}
        try:
            with self.path.open("ab+", buffering=0) as file:
                self._append(file, message_id.encode(), row)
        except OSError as error:
            raise DeliveryError(_reason(error)) from None

    def _append(self, file: io.FileIO, message_id: bytes, row: Mapping[str, Any]) -> None:
        """Appends a row, which begins with its message_id, unless it is the last one already."""
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if not HEADING.startswith(file.read(len(HEADING))):
            raise DeliveryError(f"{self.path} holds another table; name a new file")
        file.seek(max(0, size - TAIL_BYTES))
        rows = file.read().splitlines(keepends=True)
        incomplete = rows.pop() if rows and not rows[-1].endswith(b"\n") else b""
        if rows and rows[-1].startswith(message_id):
            return
        text = io.StringIO()
        if incomplete and (message_id.startswith(incomplete[: len(message_id)]) or HEADING.startswith(incomplete)):
            size -= len(incomplete)
            file.truncate(size)
        elif incomplete:
            text.write("\r\n")
        writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore")
        if not size:
            writer.writeheader()
        writer.writerow(row)
        data = text.getvalue().encode()
        try:
            if file.write(data) != len(data):
                raise OSError("the disk is full")
            os.fsync(file.fileno())
        except OSError:
            file.truncate(size)
            raise


def _reason(error: Exception) -> str:
    """An error in words."""
    if isinstance(error, TimeoutError):
        return f"no answer within {RESPONSE_SECONDS:g} s"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(" ".join(text.split()))[:300]
