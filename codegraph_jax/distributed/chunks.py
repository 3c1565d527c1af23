"""Splits work into smaller chunks when a device runs out of memory, with one warning."""

import logging
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from codegraph_jax.core.errors import UserError

logger = logging.getLogger(__name__)

OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"
"""Part of the runtime's message when an allocation on a device fails."""


class OutOfMemoryError(UserError):
    """A device has too little memory for the smallest chunk."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation on a device has failed."""
    return isinstance(error, jax.errors.JaxRuntimeError) and OUT_OF_MEMORY in str(error)


class Chunks:
    """Calls a function on chunks of items; halves the chunk size whenever a device runs out of memory.

    Attributes:
        items: name of the items in messages.
        advice: advice for the error if a single item does not fit.
        size: items per call; 0: all.
    """

    def __init__(self, items: str, advice: str):
        self.items, self.advice, self.size = items, advice, 0
        self._proven = False

    def __call__(self, run: Callable[[slice], Any], count: int, axis: int = 0) -> Any:
        """Calls `run` on all of `count` items.

        `run` returns a pytree of arrays for a slice of the items; results are concatenated along `axis` on the host.

        Raises:
            OutOfMemoryError: a single item does not fit.
        """
        while True:
            size = min(self.size or count, count)
            try:
                parts = [run(slice(start, min(start + size, count))) for start in range(0, count, size)]
                # concatenated on the host to save device memory
                result = parts[0] if len(parts) == 1 else jax.tree.map(lambda *x: np.concatenate(x, axis), *parts)
                if not self._proven:
                    # some devices report the failure only when the result is used
                    jax.block_until_ready(result)
                    self._proven = True
                return result
            except jax.errors.JaxRuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    problem = f"a device has too little memory for one of the {self.items}"
                    raise OutOfMemoryError(f"{problem}; {self.advice}") from error
            if not self.size:
                logger.warning("a device is out of memory with %d %s at once; trying fewer", size, self.items)
            self.size, self._proven = -(-size // 2), False
