"""Sends the messages in the outbox of a line, in one thread for each target, so that no receiver delays the inspection.

Messages go out in order, one at a time. After an error the target is tried again after a pause, which is doubled each
time. After three failures in a row, every second attempt takes a random waiting message, so that a bad one does not
block the rest; a message that fails `MAX_TRIES` times while others are accepted is set aside.
"""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from codegraph_jax.core.errors import MissingPackageError
from codegraph_jax.line.database import LedgerUnavailableError
from codegraph_jax.line.ledger import LEDGER_FILE, Ledger
from codegraph_jax.line.outbox import QueuedMessage, Undelivered
from codegraph_jax.line.targets import RESPONSE_SECONDS, DeliveryError, Target, open_target, without_secrets
from codegraph_jax.report.wording import counted

MAX_TRIES = 5
"""Attempts at a message, not counting those during which the target accepts no message at all."""
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 1.0, 60.0
"""Seconds before the next attempt: the first pause, doubled each time up to the longest."""
LAST_SECONDS = 3.0
"""Seconds after the end of the inspection in which remaining messages are sent; the others follow at the next start."""

logger = logging.getLogger(__name__)


class Sender(threading.Thread):
    """Sends the messages of one target until `stop`.

    Args:
        ledger: the ledger of the line.
        address: the address of the target, see `codegraph_jax.line.targets`.
        target: sends the messages.
    """

    def __init__(self, ledger: Ledger, address: str, target: Target):
        super().__init__(name=f"send to {without_secrets(address)}", daemon=True)
        self.ledger, self.address, self.target = ledger, address, target
        self._wake = threading.Event()
        self._ends_at: float | None = None
        self._next_attempt_at = 0.0
        # failures since the last message that was accepted; whether any was accepted since the last failure
        self._failures, self._accepts, self._warned = 0, False, False
        # accepted, but still in the outbox, since the ledger could not be written
        self._confirmed: QueuedMessage | None = None

    def wake(self, skip_pause: bool) -> None:
        """Looks for messages; with `skip_pause`, also during the pause after an error."""
        if skip_pause:
            self._next_attempt_at = 0.0
        self._wake.set()

    def stop(self) -> None:
        """Ends the thread when everything is sent, after an error, or after `LAST_SECONDS`."""
        self._ends_at = time.monotonic() + LAST_SECONDS
        self._wake.set()

    def run(self) -> None:
        """Sends until `stop`."""
        pause: float | None = 0.0
        # after `stop`, only as long as messages go out without a pause
        while not self._ends_at or (pause == 0.0 and time.monotonic() <= self._ends_at):
            self._wake.wait(pause)
            self._wake.clear()
            left = self._next_attempt_at - time.monotonic()
            pause = left if left > 0 else self._step()
        self.target.close()

    def _step(self) -> float | None:
        """Sends one message; returns the seconds until the next step, or None if there is no message."""
        try:
            self._remove_confirmed()
            at_random = self._failures >= 3 and self._failures % 2 == 1
            queued = self.ledger.outbox.next(self.address, at_random)
            return None if queued is None else self._send(queued)
        except LedgerUnavailableError as error:
            return self._pause_after(error)

    def _send(self, queued: QueuedMessage) -> float:
        """Sends a message and records the outcome; returns the seconds until the next step."""
        try:
            self._deliver(queued)
        except DeliveryError as error:
            tries = queued.tries + self._accepts
            set_aside = error.refused or tries >= MAX_TRIES
            self.ledger.outbox.record_failure(queued, str(error), tries, set_aside)
            return self._pause_after(error, set_aside, error.retry_after)
        self._confirmed = queued
        self._remove_confirmed()
        if self._warned:
            logger.warning("%s: accepts results again", without_secrets(self.address))
        self._failures, self._accepts, self._warned = 0, True, False
        return 0.0

    def _remove_confirmed(self) -> None:
        if self._confirmed:
            self.ledger.outbox.remove_delivered(self._confirmed)
            self._confirmed = None

    def _deliver(self, queued: QueuedMessage) -> None:
        try:
            if body := message(self.ledger, queued):
                self.target.deliver(queued.message_id, body)
        except (DeliveryError, LedgerUnavailableError):
            raise
        except Exception as error:  # an error of this program must not end the thread
            logger.exception("%s: a result cannot be sent", without_secrets(self.address))
            raise DeliveryError(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from None

    def _pause_after(self, error: Exception, set_aside: bool = False, retry_after: float = 0.0) -> float:
        """Returns the seconds until the next step."""
        if not self._warned:
            logger.warning("%s: results are not accepted: %s", without_secrets(self.address), error)
            self._warned = True
        if set_aside:  # the target can be reached, and may accept the next message
            return 0.0
        pause = max(min(FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures, 30), MAX_PAUSE_SECONDS), retry_after)
        self._failures, self._accepts = self._failures + 1, False
        self._next_attempt_at = time.monotonic() + pause
        return pause


@contextmanager
def sending(ledger: Ledger, addresses: Sequence[str]) -> Iterator[None]:
    """Sends the results of a line to targets while the block runs, and prints what was not delivered.

    Args:
        ledger: the ledger of the line.
        addresses: the addresses of the targets.

    Raises:
        MissingPackageError: a target needs a package that is not installed.
    """
    outbox, senders = ledger.outbox, [Sender(ledger, one, open_target(one)) for one in dict.fromkeys(addresses)]
    if senders:
        try:
            from codegraph_jax.line import responses  # noqa: F401
        except ImportError:
            raise MissingPackageError("sending results", "pydantic", "app") from None
        print(f"sending results to {', '.join(without_secrets(sender.address) for sender in senders)}", flush=True)
    outbox.send_to([sender.address for sender in senders])
    for one in outbox.undelivered():
        print(f"from an earlier start: {in_words(one)}", flush=True)

    def wake(skip_pause: bool = False) -> None:
        for sender in senders:
            sender.wake(skip_pause)

    outbox.wake = wake
    for sender in senders:
        sender.start()
    try:
        yield
    finally:
        for sender in senders:
            sender.stop()
        # one limit for all: the app ends a line that takes longer
        deadline = time.monotonic() + LAST_SECONDS + RESPONSE_SECONDS - 1
        for sender in senders:
            sender.join(max(0.0, deadline - time.monotonic()))
        for one in outbox.undelivered():
            print(
                f"{in_words(one)}. They stay in {LEDGER_FILE}; the next start with this target sends them.", flush=True
            )


def message(ledger: Ledger, queued: QueuedMessage) -> str:
    """`responses.Message` of a queued message as JSON; empty if the part was replaced before it was sent."""
    from codegraph_jax.line.responses import Message

    is_alarm = queued.event == "acknowledgement"
    part = None if is_alarm else ledger.by_number(queued.subject)
    alarm = ledger.alarm(queued.subject) if is_alarm else None
    if part is None and alarm is None:
        return ""
    values = {"message_id": queued.message_id, "event": queued.event, "replaces": queued.replaces or None}
    return Message.model_validate(values | {"part": part, "alarm": alarm}).model_dump_json()


def in_words(one: Undelivered) -> str:
    """Undelivered messages as a sentence without its full stop."""
    kinds = {"waiting": one.waiting, "set aside": one.set_aside}
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
    error = f"; last error: {one.error}" if one.error else ""
    return f"{counted(sum(kinds.values()), 'result')} not delivered to {without_secrets(one.address)} ({counts}){error}"
