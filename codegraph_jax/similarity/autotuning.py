"""Which kernel and which precision of products are fastest here, by a short timing on drawn features.

The kernels give the same distances, and which of them is faster depends on the machine: `reuse` makes one product where
`direct` makes one a degree, and writes the tile that `direct` need not keep. Products in bfloat16 are twice as fast
where the hardware has them, and slower where it has not. What comes first is kept unless something else is clearly
faster, so that the next start chooses alike; what fails here, or gives other distances, is not taken.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from codegraph_jax.config import SimilarityConfig
from codegraph_jax.core.timing import Timing, interleaved
from codegraph_jax.features.aggregation import normalise
from codegraph_jax.similarity.pairwise import tile_options
from codegraph_jax.similarity.tiles import pair_distances, prepare

BETTER = 1.2
"""How many times faster another choice must be."""
IMAGES, ROUNDS = 4, 3
"""Drawn images, all pairs of which are timed, and rounds after the first."""
MANY = 96
"""Pairs that an accelerator gets, which the few pairs of so few images would only make wait."""
NEAR = {"float32": 1e-3, "tf32": 2e-2, "bfloat16": 0.1}
"""How far squared distances may lie from those in float32 by each precision, far above its rounding."""


def autotune(
    config: SimilarityConfig, degrees: tuple[int, ...], grid: tuple[int, int], channels: int
) -> tuple[SimilarityConfig, str]:
    """The settings with a kernel and a precision in place of `auto`, and in words what was chosen, if anything was.

    Args:
        config: of the run.
        degrees: see `FeatureConfig`.
        grid: (h, w) of the patches.
        channels: of a patch.
    """
    # on CPUs `reuse` has won at every size
    open_kernel = config.kernel == "auto" and not config.radius and jax.default_backend() != "cpu"
    kernels = ["direct", "reuse"] if open_kernel else [config.kernel]
    precisions = ["float32", "bfloat16"] if config.precision == "auto" else [config.precision]
    candidates = [dataclasses.replace(config, kernel=k, precision=p) for p in precisions for k in kernels]
    first = candidates[0]
    if len(candidates) == 1:
        return first, ""
    if jax.process_count() > 1:
        # every process must take the same, and each would measure its own
        return first, f"distances: {_named(first, degrees, grid)}, since several processes do not measure"
    times = timed(tuple(candidates), degrees, grid, channels)
    seconds = {candidate: timing.decisive for candidate, timing in times.items()}
    if first not in seconds:
        return first, ""
    best = min(seconds, key=lambda candidate: seconds[candidate])
    if seconds[first] < BETTER * seconds[best]:
        best = first
    others = [
        f"{_named(other, degrees, grid)} takes {seconds[other] / seconds[best]:.1f} times as long"
        for other in seconds
        if other != best
    ]
    said = "; ".join(others) or "nothing else gives the same distances"
    return best, f"distances: {_named(best, degrees, grid)}, by a short timing ({said})"


@lru_cache
def timed(
    candidates: tuple[SimilarityConfig, ...], degrees: tuple[int, ...], grid: tuple[int, int], channels: int
) -> Mapping[SimilarityConfig, Timing]:
    """How long each takes for some pairs of drawn images; those that fail or give other distances are left out.

    Kept, so that several detectors in one process choose alike, and measure once.
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


def _named(config: SimilarityConfig, degrees: tuple[int, ...], grid: tuple[int, int]) -> str:
    return f"{tile_options(config, degrees, grid).kernel} in {config.precision}"
