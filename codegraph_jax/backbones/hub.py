"""Checks whether the Hugging Face hub can be reached, with one request of three seconds at most.

huggingface_hub itself tries six times and warns each time. A failure is stored in the user's cache directory, and runs
that have other weights do not try again for a day.
"""

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from codegraph_jax.core.files import read_json, user_cache, write_json

SECONDS = 3.0
"""Timeout of a request to the hub."""
RETRY_SECONDS = 24 * 3600.0
"""Seconds for which a stored failure is valid."""


def why_unreachable(use_stored_failure: bool) -> str | None:
    """The reason why the hub cannot be reached; None if it can.

    `use_stored_failure` returns a failure of the last day without a request.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    network = f"{constants.ENDPOINT} {os.environ.get('HTTPS_PROXY') or os.environ.get('https_proxy') or ''}".strip()
    file = failure_file()
    if use_stored_failure and (known := _stored_failure(file, network)):
        return known
    reason = _request(constants.ENDPOINT)
    with suppress(OSError):
        if reason:
            write_json(file, {"network": network, "at": time.time(), "reason": reason})
        else:
            file.unlink(missing_ok=True)
    return reason


def failure_file() -> Path:
    """The file that stores the last failure."""
    return user_cache() / "hub.json"


def _stored_failure(file: Path, network: str) -> str | None:
    try:
        found = read_json(file)
        if found["network"] == network and 0 <= time.time() - float(found["at"]) < RETRY_SECONDS:
            clock = time.strftime("%H:%M", time.localtime(float(found["at"])))
            return f"{str(found['reason'])[:200]} at {clock}; the next attempt is a day later"
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        pass
    return None


def _request(address: str) -> str | None:
    """Sends one request, in a thread because a DNS lookup has no timeout; returns the reason of a failure."""
    from huggingface_hub import get_session

    host = address.partition("://")[2].partition("/")[0]
    reasons = [f"{host} does not answer within {SECONDS:g} s"]

    def send() -> None:
        try:
            get_session().head(address, timeout=SECONDS)
        except Exception as error:  # the type depends on the HTTP library of the hub's client
            reasons.append(f"{host} cannot be reached: {' '.join(str(error).split()) or type(error).__name__}")
        else:
            reasons.append("")

    thread = threading.Thread(target=send, name="hub", daemon=True)
    thread.start()
    thread.join(SECONDS)
    return reasons[-1] or None
