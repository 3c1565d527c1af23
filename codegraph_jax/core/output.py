"""Output streams that never raise: unsupported characters are escaped, and a closed pipe is ignored."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO


class SteadyStream:
    """A text stream that ignores errors: after the first (a closed pipe, a full disk), nothing more is written."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._lost = False

    def write(self, text: str) -> int:
        """Writes the text, or drops it; returns its length."""
        self._try(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Flushes the buffer, or drops it."""
        self._try(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _try(self, action: Callable[..., object], *arguments: str) -> None:
        if self._lost:
            return
        try:
            action(*arguments)
        except UnicodeError:
            pass
        except (OSError, ValueError):
            self._lost = True
            with suppress(OSError, ValueError):
                # Python flushes its buffer again at exit, which must not fail
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)


def steady_output() -> None:
    """Wraps standard output and standard error in a `SteadyStream` for the rest of the process."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or isinstance(stream, SteadyStream):
            continue
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, SteadyStream(stream))
