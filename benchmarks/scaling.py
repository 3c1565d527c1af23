"""Distances of one layer on one device and on several."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.kernel import as_stored, draw_tokens
from benchmarks.peaks import product_peak
from benchmarks.records import Record, record
from benchmarks.settings import BenchmarkConfig
from benchmarks.sizes import Sizes
from codegraph_jax.config import SimilarityConfig
from codegraph_jax.core.timing import interleaved
from codegraph_jax.distributed.devices import DeviceMesh
from codegraph_jax.similarity.kernels import distance_options
from codegraph_jax.similarity.ring import pairwise_distances


def measure(config: BenchmarkConfig, sizes: Sizes) -> list[Record]:
    """Measures the same images on each number of devices; `same`: the table equals the first one bit for bit."""
    here = jax.local_devices()
    numbers = sizes.devices or tuple(2**k for k in range(len(here).bit_length()))
    grid = (sizes.grid, sizes.grid)
    options = distance_options(SimilarityConfig(), config.precisions[0], sizes.degrees, grid)
    tokens = np.asarray(as_stored(jax.numpy.asarray(draw_tokens(sizes.scaling_images, grid, sizes.channels)), options))
    functions = {
        f"{number} devices": _run(tokens, DeviceMesh(tuple(here[:number]), config.parallel.backend), options)
        for number in numbers
        if number <= len(here)
    }
    times = interleaved(functions, config.repeats)
    first = next(iter(functions))
    pairs = sizes.scaling_images * (sizes.scaling_images - 1) // 2
    products = 1 if options.kernel == "reuse" else len(sizes.degrees)
    return [
        record(
            "scaling",
            f"{name}, {options.kernel} {options.precision}",
            timing,
            pairs,
            "pairs",
            flop=2.0 * sizes.grid**4 * sizes.channels * products * pairs,
            peak=product_peak(options.precision),
            devices=int(name.split()[0]),
            backend=config.parallel.backend,
            same=bool((timing.result == times[first].result).all()),
        )
        for name, timing in times.items()
    ]


def _run(tokens: np.ndarray, mesh: DeviceMesh, options: Any) -> Callable[[], np.ndarray]:
    return lambda: pairwise_distances(tokens, options, np.arange(len(tokens)), mesh=mesh)
