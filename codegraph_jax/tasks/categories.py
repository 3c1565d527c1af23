"""Many categories: several devices, each with one of its own, or one device that compares one and judges another.

All devices on one category after the other move features between them and wait for the slowest at every step. Where
each device takes a whole category, then the next that waits, there is nothing to wait for, as long as there are more
categories than devices; but every category in work needs its own memory.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
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
    """A detector for each device of this one, which is of this process alone: at most one an item, memory shared."""
    devices = detector.mesh.devices[:items]
    limit = memory_limit(detector.config.storage) / len(devices)
    return [detector.on(device, limit) for device in devices]


def on_each_device(
    detectors: Sequence[CoDeGraph],
    work: Callable[[CoDeGraph, K], T],
    items: Sequence[K],
    progress: Progress = lambda items: None,
) -> list[T]:
    """`work(detector, item)` of every item, each by the next detector that is free.

    Args:
        detectors: each of one device.
        work: called in a thread.
        items: taken in order.
        progress: called as items are done.

    Returns:
        The results in the order of the items.

    Raises:
        Whatever the first failure is; what has not begun by then never does.
    """
    idle: SimpleQueue[CoDeGraph] = SimpleQueue()
    for detector in detectors:
        idle.put(detector)

    def one(item: K) -> T:
        own = idle.get()
        try:
            with jax.default_device(own.mesh.devices[0]):
                return work(own, item)
        finally:
            idle.put(own)

    with ThreadPoolExecutor(len(detectors), "category") as pool:
        results = [pool.submit(one, item) for item in items]
        try:
            for result in as_completed(results):
                result.result()
                progress(1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [result.result() for result in results]


def in_two_halves(slow: Callable[[K], S], quick: Callable[[K, S], T], items: Sequence[K]) -> Iterator[T]:
    """`quick(item, slow(item))` of every item in order; the slow half of the next one runs beside the quick half.

    Whoever stops asking need not wait: what has begun ends with the process.
    """
    upcoming = _begun(slow, items[0]) if items else None
    for item, following in zip(items, [*items[1:], None]):
        assert upcoming
        made = upcoming.result()
        upcoming = None if following is None else _begun(slow, following)
        yield quick(item, made)


def _begun(work: Callable[[K], S], item: K) -> "Future[S]":
    """`work` in a thread that nobody waits for at the end, as those of a pool are."""
    outcome: Future[S] = Future()

    def run() -> None:
        try:
            outcome.set_result(work(item))
        except BaseException as error:
            outcome.set_exception(error)

    Thread(target=run, name="next category", daemon=True).start()
    return outcome
