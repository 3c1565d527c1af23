"""Chooses the precision of products and the kernel of the distances by short timings on this machine.

bfloat16 is twice as fast as float32 on hardware with instructions for it, and slower elsewhere. Both kernels give the
same distances: `reuse` computes one product of two images where `direct` computes one for each degree, but writes
cosines to memory that `direct` need not keep. The first candidate is chosen unless another is clearly faster, so that
the choice is the same at every start. A candidate that fails or gives different distances is never chosen.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from codegraph_jax.config import Config, SimilarityConfig
from codegraph_jax.core.compilation_cache import machine
from codegraph_jax.core.files import user_cache, whole_file
from codegraph_jax.core.matmul import measured_flop_rate
from codegraph_jax.core.timing import Timing, interleaved
from codegraph_jax.features.aggregation import normalise
from codegraph_jax.similarity.kernels import distance_options
from codegraph_jax.similarity.pair_distances import pair_distances, prepare

KERNELS = ("direct", "reuse")
"""The kernels that are timed, the usual one first."""
MIN_SPEEDUP = 1.2
"""How many times faster than the first kernel another one must be."""
TIMED_IMAGES, TIMED_ROUNDS = 4, 3
"""Number of random images, all pairs of which are timed, and of rounds after the first."""
ACCELERATOR_PAIRS = 96
"""Pairs in one call on an accelerator; fewer do not keep it busy."""
TOLERANCE = {"float32": 1e-3, "tf32": 2e-2, "bfloat16": 0.1}
"""Largest difference of squared distances between two kernels, far above the rounding of each precision."""
NOT_TIMED = "nothing is timed with several processes"


def autotune(config: Config, grid: tuple[int, int], channels: int) -> tuple[Config, str]:
    """The settings with a precision and a kernel instead of `auto`; and a message, empty if nothing was timed."""
    alone, reasons = jax.process_count() == 1, []
    if config.precision == "auto":
        # all processes must make the same choice, and their timings may differ
        gain = bfloat16_speedup() if alone else 0.0
        config = dataclasses.replace(config, precision="bfloat16" if gain >= MIN_SPEEDUP else "float32")
        if gain >= MIN_SPEEDUP:
            reasons.append(f"{gain:.1f} times as fast as float32 on this machine")
        elif not alone:
            reasons.append(NOT_TIMED)
    similarity, degrees = config.similarity, config.features.degrees
    if similarity.kernel == "auto" and not similarity.radius_patches and jax.default_backend() != "cpu":
        # on CPUs `reuse` is the fastest at every size
        kernel, reason = KERNELS[0], NOT_TIMED
        if alone:
            kernel, reason = _fastest(config.precision, degrees, grid, channels)
        similarity = dataclasses.replace(similarity, kernel=kernel)
        reasons.append(reason)
    config = dataclasses.replace(config, similarity=similarity)
    if not reasons:
        return config, ""
    kernel = distance_options(similarity, config.precision, degrees, grid).kernel
    return config, f"distances: {kernel} in {config.precision} ({'; '.join(dict.fromkeys(reasons))})"


@lru_cache(maxsize=1)
def bfloat16_speedup() -> float:
    """Speed of products in bfloat16 relative to float32; 0 if they fail or are wrong.

    Measured once per machine and kept in the user's cache: another choice at a later start would make a run discard the
    features and distances that it has stored.
    """
    device = re.sub(r"\W+", "-", jax.devices()[0].device_kind)
    path = user_cache() / "bfloat16" / f"{device}-{machine()}-jax-{jax.__version__}"
    try:
        gain = float(path.read_text(encoding="ascii"))
        if math.isfinite(gain):
            return gain
    except (OSError, ValueError):
        # not measured yet, or damaged
        pass
    try:
        gain = measured_flop_rate("bfloat16") / measured_flop_rate("float32")
    except (jax.errors.JaxRuntimeError, FloatingPointError):
        gain = 0.0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as name:
            Path(name).write_text(f"{gain:.3f}\n", encoding="ascii")
    except OSError:
        # a cache that cannot be written costs a second at every start
        pass
    return gain


def _fastest(precision: str, degrees: tuple[int, ...], grid: tuple[int, int], channels: int) -> tuple[str, str]:
    """The first of `KERNELS`, or another that is clearly faster; and the reason."""
    times = timed(precision, degrees, grid, channels)
    seconds = {kernel: timing.seconds for kernel, timing in times.items()}
    first = KERNELS[0]
    if first not in seconds:
        return first, f"{first} cannot be timed"
    best = min(seconds, key=lambda kernel: seconds[kernel])
    if seconds[first] < MIN_SPEEDUP * seconds[best]:
        best = first
    others = [f"{other} takes {seconds[other] / seconds[best]:.1f} times as long" for other in seconds if other != best]
    return best, "; ".join(others) or "the other kernel fails or gives different distances"


@lru_cache
def timed(precision: str, degrees: tuple[int, ...], grid: tuple[int, int], channels: int) -> Mapping[str, Timing]:
    """Timings of `KERNELS` on pairs of random images, except those that fail or give different distances.

    The result is cached, so that all detectors of a process choose the same.
    """
    tokens = np.random.default_rng(0).normal(size=(TIMED_IMAGES, grid[0] * grid[1], channels)).astype(np.float32)
    normalised = normalise(jnp.asarray(tokens))
    pairs = np.array([(i, j) for j in range(TIMED_IMAGES) for i in range(j)])
    if jax.default_backend() != "cpu":
        pairs = np.resize(pairs, (ACCELERATOR_PAIRS, 2))
    first, second = pairs.T
    functions: dict[str, Callable[[], tuple[Array, Array]]] = {}
    exact: Float[np.ndarray, "b r p"] | None = None
    for kernel in KERNELS:
        options = distance_options(SimilarityConfig(kernel=kernel), precision, degrees, grid)
        try:
            patches = prepare(normalised, options)

            def distances(patches=patches, options=options):  # type: ignore[no-untyped-def]
                return pair_distances(patches, patches, first, second, options)

            squares = np.square(np.asarray(distances()[0]))
        except (jax.errors.JaxRuntimeError, NotImplementedError, ValueError):
            continue
        exact = squares if exact is None else exact
        if np.abs(squares - exact).max() <= TOLERANCE[precision]:
            functions[kernel] = distances
    timings = interleaved(functions, TIMED_ROUNDS)
    # cached results would keep memory of the device
    return {kernel: dataclasses.replace(timing, result=None) for kernel, timing in timings.items()}
