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


def on_each_device(
    detector: CoDeGraph,
    work: Callable[[CoDeGraph, K], T],
    items: Sequence[K],
    progress: Progress = lambda items: None,
) -> list[T]:
    """`work(detector, item)` of every item, each by one device of the detector's mesh; as many at once as there are.

    Args:
        detector: of this process alone.
        work: called in a thread, with a detector whose only device is one that is free.
        items: taken in order.
        progress: called as items are done.

    Returns:
        The results in the order of the items.

    Raises:
        Whatever the first failure is; what has not begun by then never does.
    """
    devices = detector.mesh.devices[: len(items)]
    limit = memory_limit(detector.config.storage) / len(devices)
    idle: SimpleQueue[CoDeGraph] = SimpleQueue()
    for device in devices:
        idle.put(detector.on(device, limit))

    def one(item: K) -> T:
        own = idle.get()
        try:
            with jax.default_device(own.mesh.devices[0]):
                return work(own, item)
        finally:
            idle.put(own)

    with ThreadPoolExecutor(len(devices), "category") as pool:
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
