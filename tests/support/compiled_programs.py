"""The programs that XLA compiles inside a block of code."""

import logging
import re
from contextlib import contextmanager

LOGGER = "jax._src.interpreters.pxla"


class _Names(logging.Handler):
    def __init__(self):
        super().__init__()
        self.names = []

    def emit(self, record):
        if found := re.match(r"Compiling (\S+)", record.getMessage()):
            self.names.append(found.group(1))


@contextmanager
def compiled_programs():
    """A list to which the names of compiled programs are appended."""
    handler, logger = _Names(), logging.getLogger(LOGGER)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield handler.names
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
