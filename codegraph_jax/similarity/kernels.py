"""Chooses the kernel that compares images on this platform, and its options."""

import logging

import jax

from codegraph_jax.config import SimilarityConfig
from codegraph_jax.similarity import fused, fused_gpu
from codegraph_jax.similarity.pair_distances import DistanceOptions

logger = logging.getLogger(__name__)

MAX_PAIRS, MAX_COSINE_BYTES = 8, 2**29
"""Limits of one product on accelerators: pairs of images, and bytes of their cosines; large images reach the second."""

BLOCKS = 64
"""Blocks in one product on accelerators, if patches are compared within a radius."""


def pick_kernel(kernel: str, precision: str) -> str:
    """Replaces `auto` by the fastest kernel on this platform (docs/benchmarks.md), and `fused` by its form for the GPU.

    A `fused` that does not exist here is replaced by `direct`, with a warning.
    """
    platform = jax.default_backend()
    if kernel == "fused" and fused_gpu.supported(precision):
        return "fused_gpu"
    if kernel == "fused" and not fused.supported(platform):
        logger.warning(
            "config.similarity.kernel: fused does not exist for %s in %s on this %s; direct gives the same distances",
            platform, precision, jax.devices()[0].device_kind,
        )  # fmt: skip
        return "direct"
    if kernel != "auto":
        return kernel
    return "reuse" if platform == "cpu" else "direct"


def derives_degrees(config: SimilarityConfig, precision: str) -> bool:
    """Whether all degrees are derived from one product of two images, so that only one set of vectors is stored."""
    # `fused` is tested first, since `pick_kernel` may warn about it
    if config.radius_patches or config.kernel == "fused":
        return False
    return pick_kernel(config.kernel, precision) == "reuse"


def distance_options(
    config: SimilarityConfig, precision: str, degrees: tuple[int, ...], grid: tuple[int, int], masked: bool = False
) -> DistanceOptions:
    """The options of the kernel for the settings and this platform; `masked` if some patches are invalid."""
    on_cpu = jax.default_backend() == "cpu"
    if config.radius_patches:
        # a larger radius than the grid gives the same distances
        radius, blocks = min(config.radius_patches, max(grid)), 1 if on_cpu else BLOCKS
        return DistanceOptions("direct", degrees, grid, precision, 1, radius, masked, blocks)
    cosine_bytes = 4 * (grid[0] * grid[1]) ** 2
    pairs = 1 if on_cpu else max(1, min(MAX_PAIRS, MAX_COSINE_BYTES // cosine_bytes))
    options = DistanceOptions(pick_kernel(config.kernel, precision), degrees, grid, precision, pairs, masked=masked)
    return options.unfused() if masked else options
