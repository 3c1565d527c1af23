"""Work in smaller chunks when a device runs out of memory, and say so once."""

import logging
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from codegraph_jax.core.errors import UserError

logger = logging.getLogger(__name__)

SIGN = "RESOURCE_EXHAUSTED"
"""How the runtime begins its message when an allocation on a device fails."""


class OutOfMemory(UserError):
    """A device has no room for even the smallest chunk."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device has failed to allocate."""
    return isinstance(error, jax.errors.JaxRuntimeError) and SIGN in str(error)


class Chunks:
    """Calls a device's function on a chunk of items; where that fails for memory, on halves of it from then on.

    Attributes:
        what: the items, for the messages.
        advice: what a user can do where even one item does not fit.
        size: items of a call; 0: however many are given.
    """

    def __init__(self, what: str, advice: str):
        self.what, self.advice, self.size = what, advice, 0
        self._proven = False

    def __call__(self, run: Callable[[slice], Any], items: int, axis: int = 0) -> Any:
        """`run` on all of the items.

        Args:
            run: of a part of the items; a pytree of arrays.
            items: how many there are.
            axis: of the results, along which parts are joined, on the host.

        Raises:
            OutOfMemory: one item is too many.
        """
        while True:
            size = min(self.size or items, items)
            try:
                parts = [run(slice(start, min(start + size, items))) for start in range(0, items, size)]
                # joined on the host, where there is room
                result = parts[0] if len(parts) == 1 else jax.tree.map(lambda *x: np.concatenate(x, axis), *parts)
                if not self._proven:
                    # some devices report the failure only when the result is needed
                    jax.block_until_ready(result)
                    self._proven = True
                return result
            except jax.errors.JaxRuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    problem = f"a device has too little memory for one of the {self.what}"
                    raise OutOfMemory(f"{problem}; {self.advice}") from error
            if not self.size:
                logger.warning("a device is out of memory with %d %s at once; trying fewer", size, self.what)
            self.size, self._proven = -(-size // 2), False
