"""Chooses the reference images, and the kernel that compares images on this platform."""

import logging
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Int

from codegraph_jax.config import SimilarityConfig
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.similarity import fused, fused_gpu
from codegraph_jax.similarity.tiles import DistanceOptions

logger = logging.getLogger(__name__)

MAX_TILES, TILE_BYTES = 8, 2**29
"""Limits of one product on accelerators: number of tiles, and their memory, which large images reach first."""

BLOCKS = 64
"""Blocks in one product on accelerators, if patches are compared within a radius."""


def choose_references(keys: Sequence[bytes], limit: int | None) -> Int[np.ndarray, " m"]:
    """Indices of the reference images, in ascending order: all images, or `limit` of them.

    The sample is pseudo-random but depends only on the images' content (`data.batches.image_key`), not on their order,
    so that everything that alternates in a listing (views, cameras, shifts) is represented.
    """
    n = len(keys)
    if not limit or limit >= n:
        return np.arange(n)
    return np.sort(np.array(sorted(range(n), key=lambda i: keys[i])[:limit], np.int64))


def require_several(setting: str, count: int | None) -> None:
    """Checks a number of references; None stands for all images.

    Raises:
        ConfigError: the number is below 2 or not an integer.
    """
    if count == 1:
        raise ConfigError(f"config.{setting}: a reference cannot be scored against itself; give two or more")
    if count is not None and (not isinstance(count, int | np.integer) or count < 1):
        raise ConfigError(f"config.{setting}: {count!r} is not a number of references; give two or more")


def reference_columns(n: int, references: Int[np.ndarray, " m"]) -> Int[np.ndarray, " n"]:
    """For each of n images its index among the references, or -1 if it is not a reference."""
    column = np.full(n, -1)
    column[references] = np.arange(len(references))
    return column


def schedule_length(n: int, reference_count: int) -> int:
    """Number of pairs of n images that contain at least one reference."""
    return reference_count * (reference_count - 1) // 2 + reference_count * (n - reference_count)


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
        radius = min(config.radius_patches, max(grid))
        batch = 1 if on_cpu else BLOCKS
        return DistanceOptions("direct", degrees, grid, precision, batch, radius, masked)
    tile = 4 * (grid[0] * grid[1]) ** 2
    batch = 1 if on_cpu else max(1, min(MAX_TILES, TILE_BYTES // tile))
    kernel = pick_kernel(config.kernel, precision)
    if masked and kernel.startswith("fused"):
        # the hand-written kernels cannot mask patches
        kernel = "direct"
    return DistanceOptions(kernel, degrees, grid, precision, batch, 0, masked)
