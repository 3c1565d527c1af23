"""Lines on standard output that cannot stop the work: a photo's name may hold anything, and the reader may go away."""

import logging
import os
import sys
from contextlib import suppress

logger = logging.getLogger(__name__)


def say(text: str) -> None:
    """Prints a line at once.

    Characters that the terminal cannot show become escapes. When nobody reads any more (`| head`, a terminal that was
    closed), a warning says so once and further output is dropped.
    """
    stream = sys.stdout
    if stream is None:  # a process without a terminal, as Windows starts some
        return
    try:
        print(text, file=stream, flush=True)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        say(text.encode(encoding, "backslashreplace").decode(encoding))
    except (OSError, ValueError) as error:  # ValueError: the stream is closed
        _drop_output()
        logger.warning("nothing more is printed, since standard output is closed (%s); the work goes on", error)


def _drop_output() -> None:
    nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    with suppress(OSError, ValueError, AttributeError):
        # what is still in the buffer is written when the process ends, and would make it end with an error
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    sys.stdout = nowhere
