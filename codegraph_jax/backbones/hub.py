"""Whether the Hugging Face hub can be reached: asked once, for three seconds, and not again for a day after a failure.

huggingface_hub itself asks six times and warns each time. A failure is remembered in the user's cache directory. It
counts only where the caller has something else to go on with, so that nobody without weights waits for the day to end.
"""

import json
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from codegraph_jax.core.files import write_json

SECONDS = 3.0
"""Timeout of a request to the hub."""
REMEMBERED = 24 * 3600.0
"""Seconds for which a failure is cached."""


def why_unreachable(remembered: bool) -> str | None:
    """The reason why the hub cannot be reached; None if it can.

    Args:
        remembered: a failure of the last day counts, and nobody is asked.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    network = f"{constants.ENDPOINT} {os.environ.get('HTTPS_PROXY') or os.environ.get('https_proxy') or ''}".strip()
    place = memory_file()
    if remembered and (known := _recall(place, network)):
        return known
    reason = _ask(constants.ENDPOINT)
    with suppress(OSError):
        if reason:
            write_json(place, {"network": network, "at": time.time(), "reason": reason})
        else:
            place.unlink(missing_ok=True)
    return reason


def memory_file() -> Path:
    """The file in which a failure is cached."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    return home / "codegraph-jax" / "hub.json"


def _recall(place: Path, network: str) -> str | None:
    try:
        found = json.loads(place.read_text(encoding="ascii"))
        if found["network"] == network and 0 <= time.time() - float(found["at"]) < REMEMBERED:
            clock = time.strftime("%H:%M", time.localtime(float(found["at"])))
            return f"{str(found['reason'])[:200]} at {clock}; it is tried once a day"
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        pass
    return None


def _ask(address: str) -> str | None:
    """One request in a separate thread, since the time of a DNS lookup cannot be limited otherwise."""
    from huggingface_hub import get_session

    host = address.partition("://")[2].partition("/")[0]
    reasons = [f"{host} does not answer within {SECONDS:g} s"]

    def ask() -> None:
        try:
            get_session().head(address, timeout=SECONDS)
        except Exception as error:  # the type depends on the HTTP library of the hub's client
            reasons.append(f"{host} cannot be reached: {' '.join(str(error).split()) or type(error).__name__}")
        else:
            reasons.append("")

    thread = threading.Thread(target=ask, name="hub", daemon=True)
    thread.start()
    thread.join(SECONDS)
    return reasons[-1] or None
