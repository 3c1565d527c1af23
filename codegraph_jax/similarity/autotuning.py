"""Chooses the precision of products and the kernel of the distances by short timings on this machine.

bfloat16 is twice as fast as float32 where the hardware has instructions for it, and slower where it has none. Both
kernels give the same distances: `reuse` computes one product of two images where `direct` computes one for each degree,
and writes a tile that `direct` need not keep. The first choice stays unless another one is clearly faster, so that the
next start chooses the same; a choice that fails here or gives other numbers is not taken.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from codegraph_jax.config import SimilarityConfig
from codegraph_jax.core.matmul import speed
from codegraph_jax.core.timing import Timing, interleaved
from codegraph_jax.features.aggregation import normalise
from codegraph_jax.similarity.pairwise import tile_options
from codegraph_jax.similarity.tiles import pair_distances, prepare

BETTER = 1.2
"""How many times faster another choice must be."""
IMAGES, ROUNDS = 4, 3
"""Drawn images, all pairs of which are timed, and rounds after the first."""
MANY = 96
"""Pairs in a call on an accelerator, which waits with fewer."""
NEAR = {"float32": 1e-3, "tf32": 2e-2, "bfloat16": 0.1}
"""Largest deviation of squared distances between two kernels, far above the rounding of each precision."""


def autotune(
    config: SimilarityConfig, degrees: tuple[int, ...], grid: tuple[int, int], channels: int
) -> tuple[SimilarityConfig, str]:
    """Replaces `auto` by a precision and a kernel; returns the settings, and a line on the choice if there was one.

    Args:
        config: settings of the run.
        degrees: see `FeatureConfig`.
        grid: (h, w) patches.
        channels: of a patch.
    """
    alone, reasons = jax.process_count() == 1, []
    if config.precision == "auto":
        # all processes must choose the same, and each would measure for itself
        gain = speed("bfloat16") / speed("float32") if alone else 0.0
        config = dataclasses.replace(config, precision="bfloat16" if gain >= BETTER else "float32")
        reasons.append(f"products in bfloat16 are {gain:.1f} times as fast as in float32" if alone else SEVERAL)
    if config.kernel == "auto" and not config.radius and jax.default_backend() != "cpu":
        # on CPUs `reuse` has won at every size
        kernels = [dataclasses.replace(config, kernel=kernel) for kernel in ("direct", "reuse")]
        config, reason = _fastest(kernels, degrees, grid, channels) if alone else (kernels[0], SEVERAL)
        reasons.append(reason)
    if not reasons:
        return config, ""
    kernel = tile_options(config, degrees, grid).kernel
    return config, f"distances: {kernel} in {config.precision} ({'; '.join(dict.fromkeys(reasons))})"


SEVERAL = "several processes do not measure"


def _fastest(
    candidates: list[SimilarityConfig], degrees: tuple[int, ...], grid: tuple[int, int], channels: int
) -> tuple[SimilarityConfig, str]:
    """The first candidate, or another one that is clearly faster, and the reason."""
    times = timed(tuple(candidates), degrees, grid, channels)
    seconds = {candidate: timing.decisive for candidate, timing in times.items()}
    first = candidates[0]
    if first not in seconds:
        return first, f"{first.kernel} cannot be timed"
    best = min(seconds, key=lambda candidate: seconds[candidate])
    if seconds[first] < BETTER * seconds[best]:
        best = first
    others = [
        f"{other.kernel} takes {seconds[other] / seconds[best]:.1f} times as long" for other in seconds if other != best
    ]
    return best, "; ".join(others) or "the other kernel fails or gives other distances"


@lru_cache
def timed(
    candidates: tuple[SimilarityConfig, ...], degrees: tuple[int, ...], grid: tuple[int, int], channels: int
) -> Mapping[SimilarityConfig, Timing]:
    """Times each candidate on pairs of drawn images, without those that fail or give other distances.

    The result is cached, so that all detectors of a process choose the same.
    """
    tokens = np.random.default_rng(0).normal(size=(IMAGES, grid[0] * grid[1], channels)).astype(np.float32)
    normalised = normalise(jnp.asarray(tokens))
    pairs = np.array([(i, j) for j in range(IMAGES) for i in range(j)])
    if jax.default_backend() != "cpu":
        pairs = np.resize(pairs, (MANY, 2))
    first, second = pairs.T
    functions: dict[SimilarityConfig, Callable[[], tuple[Array, Array]]] = {}
    exact: Float[np.ndarray, "b r p"] | None = None
    for candidate in candidates:
        options = tile_options(candidate, degrees, grid)
        try:
            patches = prepare(normalised, options)

            def distances(patches=patches, options=options):  # type: ignore[no-untyped-def]
                return pair_distances(patches, patches, first, second, options)

            found = np.square(np.asarray(distances()[0]))
        except (jax.errors.JaxRuntimeError, NotImplementedError, ValueError):
            continue
        exact = found if exact is None else exact
        if np.abs(found - exact).max() <= NEAR[candidate.precision]:
            functions[candidate] = distances
    return interleaved(functions, ROUNDS)
