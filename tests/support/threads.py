"""Work in threads whose exceptions reach the test, and servers in threads."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import uvicorn

from codegraph_jax.line.connections import BACKLOG, bind

Item = TypeVar("Item")
Result = TypeVar("Result")


def at_the_same_time(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Results of `work` for each item, in threads that begin together; raises the first exception."""
    together = threading.Barrier(len(items))

    def begun(item: Item) -> Result:
        together.wait(20)
        return work(item)

    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(begun, items))


@contextmanager
def running(work: Callable[[], object], stop: Callable[[], object]) -> Iterator[None]:
    """Runs `work` in a thread; `stop` has to end it within 40 s. Raises its exception."""
    pool = ThreadPoolExecutor(1)
    result = pool.submit(work)
    try:
        yield
    finally:
        stop()
        pool.shutdown(wait=False)
        result.result(40)


@contextmanager
def serving(server: uvicorn.Server) -> Iterator[str]:
    """Runs a server in a thread; yields its address, without a slash at the end."""

    def stop() -> None:
        server.should_exit = True

    with bind("127.0.0.1", 0) as place:
        place.listen(BACKLOG)
        with running(lambda: server.run([place]), stop):
            yield f"http://127.0.0.1:{place.getsockname()[1]}"
