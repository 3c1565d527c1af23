"""Many categories on several devices of one host: each device takes a whole category, then the next that waits.

The other way, all devices on one category after the other, moves features between devices and waits for the slowest at
every step. Here nothing is shared, so there is nothing to wait for, as long as there are more categories than devices;
but every category in work needs its own memory.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import SimpleQueue
from typing import TypeVar

import jax

from codegraph_jax.core.progress import Progress
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.features.memory import memory_limit

K = TypeVar("K")
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
