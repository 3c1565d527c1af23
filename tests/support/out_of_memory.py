"""Simulated devices that run out of memory."""

import jax

FULL = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes.")


def out_of_memory_above(limit, function, size_of, sizes):
    """`function`, which fails if `size_of` its arguments exceeds a limit; all sizes are appended to `sizes`."""

    def call(*arguments):
        size = size_of(*arguments)
        sizes.append(size)
        if size > limit:
            raise FULL
        return function(*arguments)

    return call


def warnings(caplog):
    """The warnings about memory."""
    return [record.getMessage() for record in caplog.records if "out of memory" in record.getMessage()]
