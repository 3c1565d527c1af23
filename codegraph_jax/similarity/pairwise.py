"""Which images serve as references, and which kernel compares them here."""

import logging
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Int

from codegraph_jax.config import SimilarityConfig
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.similarity import fused, fused_gpu
from codegraph_jax.similarity.tiles import TileOptions

logger = logging.getLogger(__name__)

MOST_TILES, TILE_BYTES = 8, 2**29
"""Tiles in one product on accelerators: so many, or as many as this memory holds; large images have large tiles."""

BLOCKS = 64
"""Blocks in one product on accelerators, where patches are compared within a radius."""


def choose_references(keys: Sequence[bytes], limit: int) -> Int[np.ndarray, " m"]:
    """Indices of the images that serve as references, in ascending order: all, or `limit` of them.

    They are chosen by their content, as good as at random and yet the same in any order of the images: whatever
    alternates in a listing (views, cameras, shifts) has its share among them.

    Args:
        keys: digests of the images' pixels (`data.batches.image_key`).
        limit: 0 for all.
    """
    n = len(keys)
    if not limit or limit >= n:
        return np.arange(n)
    return np.sort(np.array(sorted(range(n), key=lambda i: keys[i])[:limit], np.int64))


def require_several(setting: str, references: int) -> None:
    """Refuses a number of references that cannot work; 0 stands for all.

    Raises:
        ConfigError: it is a single one, below 0 or no whole number.
    """
    if references == 1:
        raise ConfigError(f"config.{setting}: one reference cannot judge itself; give two or more")
    if not isinstance(references, int | np.integer) or references < 0:
        raise ConfigError(f"config.{setting}: {references!r} is no number of references; give two or more")


def reference_columns(n: int, references: Int[np.ndarray, " m"]) -> Int[np.ndarray, " n"]:
    """For each of n images its place among the references, -1 where it is none."""
    column = np.full(n, -1)
    column[references] = np.arange(len(references))
    return column


def schedule_length(n: int, references: int) -> int:
    """How many pairs there are of n images of which one at least is one of so many references."""
    return references * (references - 1) // 2 + references * (n - references)


def pick_kernel(kernel: str, precision: str) -> str:
    """`auto` becomes the fastest kernel known to work here (docs/benchmarks.md); `fused` the form for the device."""
    platform = jax.default_backend()
    if kernel == "fused" and fused_gpu.supported(precision):
        return "fused_gpu"
    if kernel == "fused" and not fused.supported(platform):
        logger.warning(
            "config.similarity.kernel: fused has no form for %s in %s on this %s; direct gives the same distances",
            platform, precision, jax.devices()[0].device_kind,
        )  # fmt: skip
        return "direct"
    if kernel != "auto":
        return kernel
    return "reuse" if platform == "cpu" else "direct"


def derives_degrees(config: SimilarityConfig) -> bool:
    """Whether one product of two images serves every degree, so that no degree has vectors of its own."""
    # asked of `fused`, the choice of a kernel warns where there is no such form
    return not (config.radius or config.kernel == "fused") and pick_kernel(config.kernel, config.precision) == "reuse"


def tile_options(
    config: SimilarityConfig, degrees: tuple[int, ...], grid: tuple[int, int], masked: bool = False
) -> TileOptions:
    """What the kernel is compiled for, from the configuration and the platform.

    Args:
        config: kernel, precision and radius.
        degrees: see `FeatureConfig`.
        grid: (h, w).
        masked: whether some patches do not count.
    """
    on_cpu = jax.default_backend() == "cpu"
    if config.radius:
        # a window as large as the grid is no saving, and the same
        radius = min(config.radius, max(grid))
        batch = 1 if on_cpu else BLOCKS
        return TileOptions("direct", degrees, grid, config.precision, batch, radius, masked)
    tile = 4 * (grid[0] * grid[1]) ** 2
    batch = 1 if on_cpu else max(1, min(MOST_TILES, TILE_BYTES // tile))
    kernel = pick_kernel(config.kernel, config.precision)
    if masked and kernel.startswith("fused"):
        # the hand-written kernels know no patches that do not count
        kernel = "direct"
    return TileOptions(kernel, degrees, grid, config.precision, batch, 0, masked)
