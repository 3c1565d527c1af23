"""Aggregation, distances and mutual scores of one layer, compared with PyTorch and with float64 results."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Float

from benchmarks import exact
from benchmarks.peaks import large_product
from benchmarks.records import TORCH, Record, record, speedup
from benchmarks.settings import BenchmarkConfig
from benchmarks.sizes import Sizes
from codegraph_jax.config import ScoringConfig, SimilarityConfig
from codegraph_jax.core.timing import Timing, interleaved
from codegraph_jax.features.aggregation import box_sum, normalise
from codegraph_jax.features.memory import feature_type
from codegraph_jax.similarity.host_tables import table_scores
from codegraph_jax.similarity.kernels import distance_options
from codegraph_jax.similarity.pair_distances import DistanceOptions, pair_distances, prepare
from codegraph_jax.similarity.references import neighbour_count
from codegraph_jax.similarity.ring import pairwise_distances
from codegraph_jax.similarity.schedule import PAIRS_PER_CALL, whole_products

FRACTION = ScoringConfig().fraction


def draw_tokens(images: int, grid: tuple[int, int], channels: int) -> Float[np.ndarray, "n p c"]:
    """Tokens similar to a backbone's: smooth, with a common layout of the images and one dominant channel."""
    shared, own = (jax.random.normal(jax.random.key(k), (n, *grid, channels)) for k, n in enumerate((1, images)))
    smooth = box_sum(shared, 5, (1, 2)) / 5 + box_sum(own, 3, (1, 2)) / 3
    return np.asarray((0.3 * own + smooth).at[..., 0].add(5.0).reshape(images, -1, channels))


def measure(config: BenchmarkConfig, sizes: Sizes) -> list[Record]:
    """Measures each kernel and precision of the settings."""
    grid = (sizes.grid, sizes.grid)
    tokens = draw_tokens(sizes.kernel_images, grid, sizes.channels)
    expected = exact.mutual_scores(tokens, sizes.degrees, grid, FRACTION)
    # two names may select the same kernel on this platform
    variants = {
        f"{options.kernel} {precision}": options
        for kernel in config.kernels
        for precision in config.precisions
        for options in [distance_options(SimilarityConfig(kernel=kernel), precision, sizes.degrees, grid)]
    }
    whole: dict[str, Callable[[], Any]] = {}
    pairs: dict[str, Callable[[], Any]] = {}
    for name, options in variants.items():
        whole[name] = _whole(tokens, options)
        pairs[name] = _pairs_alone(tokens, options)
    if torch_functions := _torch(config, tokens, sizes):
        whole[TORCH], pairs[TORCH] = torch_functions
    records = []
    for title, functions in (("aggregation + scores", whole), ("pairs alone", pairs)):
        # a large product is timed in the same rounds: its speed is the peak
        products = {precision: large_product(precision) for precision in config.precisions}
        times = interleaved(functions | {k: product for k, (product, _) in products.items()}, config.repeats)
        peaks = {k: flop / times[k].seconds for k, (_, flop) in products.items()}
        for name in functions:
            errors = _errors(times[name].result, expected) if functions is whole else {}
            records.append(_record(f"{title}, {name}", variants.get(name), sizes, times, times[name], peaks, errors))
    return records


def _whole(tokens: np.ndarray, options: DistanceOptions) -> Callable[[], np.ndarray]:
    placed, references = jnp.asarray(tokens), np.arange(len(tokens))
    k = neighbour_count(len(tokens), FRACTION)

    def run() -> np.ndarray:
        return table_scores(pairwise_distances(as_stored(placed, options), options, references), k).mean(axis=0)

    return run


def as_stored(tokens: Float[Array, "n p c"], options: DistanceOptions) -> Float[Array, "n p c"]:
    """Tokens normalised and rounded as in a run."""
    return normalise(tokens).astype(feature_type(options.precision))


def _pairs_alone(tokens: np.ndarray, options: DistanceOptions) -> Callable[[], None]:
    patches = jax.block_until_ready(prepare(as_stored(jnp.asarray(tokens), options), options))
    first, second = np.triu_indices(len(tokens), 1)
    size = whole_products(min(PAIRS_PER_CALL, len(first)), options.pairs_per_product)
    calls = -(-len(first) // size)
    # all calls have the same size: the last one is filled up with the first pairs
    in_calls = [np.resize(side, calls * size).reshape(calls, size) for side in (first, second)]

    def run() -> None:
        for own, others in zip(*in_calls):
            jax.device_get(pair_distances(patches, patches, own, others, options))

    return run


def _torch(
    config: BenchmarkConfig, tokens: np.ndarray, sizes: Sizes
) -> tuple[Callable[[], np.ndarray], Callable[[], Any]] | None:
    """The whole baseline, and its distances alone; None without torch."""
    if not config.torch:
        return None
    try:
        import torch

        from benchmarks import baseline
    except ImportError:
        return None
    baseline.use_all_cores()
    given = torch.from_numpy(np.array(tokens))
    k = neighbour_count(len(tokens), FRACTION)
    prepared = [baseline.features(given, degree, sizes.grid) for degree in sizes.degrees]

    def whole() -> np.ndarray:
        scores = [baseline.mutual_scores(baseline.features(given, degree, sizes.grid), k) for degree in sizes.degrees]
        return torch.stack(scores).mean(dim=0).numpy()

    return whole, lambda: [baseline.mutual_scores(vectors, k).numpy() for vectors in prepared]


def _errors(found: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    return {
        "error": float(np.abs(found - expected).max()),
        "rank_correlation": float(scipy.stats.spearmanr(found, expected, axis=None).statistic),
    }


def _record(
    name: str,
    options: DistanceOptions | None,
    sizes: Sizes,
    times: dict[str, Timing],
    timing: Timing,
    peaks: dict[str, float],
    errors: dict[str, Any],
) -> Record:
    n, p = sizes.kernel_images, sizes.grid**2
    pairs = n * (n - 1) // 2
    # useful work: each pair once, and one product for all degrees if the kernel derives them from one
    products = 1 if options and options.kernel == "reuse" else len(sizes.degrees)
    return record(
        "kernel",
        name,
        timing,
        pairs,
        "pairs",
        flop=2.0 * p * p * sizes.channels * products * pairs if options else None,
        peak=peaks[options.precision] if options else None,
        speedup=speedup(times, timing),
        n=n,
        p=p,
        c=sizes.channels,
        degrees=sizes.degrees,
        **errors,
    )
