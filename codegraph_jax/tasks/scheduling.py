"""Schedules many categories: one category per device, or comparison of one category while the last one is scored.

Devices that share a category exchange features and wait for the slowest device at every step. Devices with a category
each never wait, as long as there are more categories than devices, but each device then needs memory for a whole
category.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from itertools import islice
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

import jax

from codegraph_jax.core.progress import Progress
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.features.memory import memory_limit

K = TypeVar("K")
S = TypeVar("S")
T = TypeVar("T")


def one_for_each_device(detector: CoDeGraph, items: int) -> list[CoDeGraph]:
    """One detector for each local device, at most `items`; they share the memory limit equally."""
    devices = detector.mesh.devices[:items]
    limit = memory_limit(detector.config.resources) / len(devices)
    return [detector.on(device, limit) for device in devices]


def on_each_device(
    detectors: Sequence[CoDeGraph],
    work: Callable[[CoDeGraph, K], T],
    items: Sequence[K],
    advance: Progress = lambda items: None,
) -> list[T]:
    """Runs `work(detector, item)` for every item on the next free detector.

    `work` is called in threads; `advance` after each item.

    Returns:
        The results in the order of the items.

    Raises:
        The first exception of `work`; items that have not started by then are cancelled.
    """
    idle: SimpleQueue[CoDeGraph] = SimpleQueue()
    for detector in detectors:
        idle.put(detector)

    def one(item: K) -> T:
        free = idle.get()
        try:
            with jax.default_device(free.mesh.devices[0]):
                return work(free, item)
        finally:
            idle.put(free)

    with ThreadPoolExecutor(len(detectors), "category") as pool:
        results = [pool.submit(one, item) for item in items]
        try:
            for result in as_completed(results):
                result.result()
                advance(1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [result.result() for result in results]


def overlapped(slow: Callable[[K], S], quick: Callable[[K, S], T], items: Sequence[K]) -> Iterator[T]:
    """Yields `quick(item, slow(item))` for every item in order; `slow` of the next item runs during `quick`.

    `slow` runs in a daemon thread, so a caller that stops early does not wait for it.
    """
    begun = (_begun(slow, item) for item in items)
    upcoming = [*islice(begun, 1)]
    for item in items:
        made = upcoming.pop().result()
        upcoming += islice(begun, 1)
        yield quick(item, made)


def _begun(work: Callable[[K], S], item: K) -> "Future[S]":
    """Starts `work` in a daemon thread; the threads of a pool would be joined when the process exits."""
    outcome: Future[S] = Future()

    def run() -> None:
        try:
            outcome.set_result(work(item))
        except BaseException as error:
            outcome.set_exception(error)

    Thread(target=run, name="next category", daemon=True).start()
    return outcome
