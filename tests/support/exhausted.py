"""Simulated devices that run out of memory."""

import jax

FULL = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes.")


def limited(function, length, most, calls):
    """`function`, which fails if `length` of its arguments exceeds `most`; all lengths are appended to `calls`."""

    def call(*arguments):
        size = length(*arguments)
        calls.append(size)
        if size > most:
            raise FULL
        return function(*arguments)

    return call


def warnings(caplog):
    """The warnings about memory."""
    return [record.getMessage() for record in caplog.records if "out of memory" in record.getMessage()]
