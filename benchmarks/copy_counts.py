"""Counts copies between the host and devices: an accelerator waits for every copy."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Lock
from time import perf_counter
from typing import Any
from unittest import mock

import jax


@dataclass
class CopyCounts:
    """Counts of copies.

    Attributes:
        to_device, to_host: number of copies; each copy to the host waits for the device.
        bytes_to_device, bytes_to_host: bytes copied.
        waited: seconds that the host has waited for the device, including copies to the host.
    """

    to_device: int = 0
    to_host: int = 0
    bytes_to_device: int = 0
    bytes_to_host: int = 0
    waited: float = 0.0


@contextmanager
def counted_copies() -> Iterator[CopyCounts]:
    """Counts the copies of all threads within the context, through `jax.device_put` and `jax.device_get`."""
    counts, lock = CopyCounts(), Lock()

    def counted(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(values: Any, *others: Any) -> Any:
            begin = perf_counter()
            found = function(values, *others)
            with lock:
                if name:
                    setattr(counts, name, getattr(counts, name) + 1)
                    size = f"bytes_{name}"
                    setattr(counts, size, getattr(counts, size) + values.nbytes)
                if name != "to_device":
                    counts.waited += perf_counter() - begin
            return found

        return call

    with ExitStack() as stack:
        for function, name in (("device_put", "to_device"), ("device_get", "to_host"), ("block_until_ready", "")):
            stack.enter_context(mock.patch.object(jax, function, counted(getattr(jax, function), name)))
        yield counts
