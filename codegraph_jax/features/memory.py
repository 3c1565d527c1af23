"""The memory plan of a run: an estimate of its memory, and the arrays that are stored in memory-mapped files."""

import logging
import shutil
import tempfile
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from codegraph_jax.backbones import LoadedBackbone
from codegraph_jax.config import Config, ResourcesConfig
from codegraph_jax.core.arrays import COPIED_BYTES, GIB
from codegraph_jax.core.environment import free_memory
from codegraph_jax.core.mapped_arrays import in_memory, mapped
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.frame import Frame

logger = logging.getLogger(__name__)

SHARE_OF_FREE = 0.6
"""Share of the free memory that a run uses by default."""

MEAN_TABLES = 2
"""Tables of mean distances in memory during the later stages, each of the size of a layer and degree; the second one is
needed if images are added."""

GRAPHS = 6
"""Matrices over pairs of images that exist at once: links, weights, a shuffled graph, and their copies."""

COPIED_PARTS = 3
"""Chunks that a stage holds at once: some images, some of their references, and a result."""

COPIED_IMAGES = 16
"""Distance tables of one image that exist at once: four threads, each with copies for a partition."""


def feature_type(precision: str) -> np.dtype:
    """The type in which a preset computes, and of patch tokens, which the kernels would round to it anyway."""
    return np.dtype(ml_dtypes.bfloat16 if precision == "bfloat16" else np.float32)


@dataclass(frozen=True)
class MemoryPlan:
    """The sizes of a run in bytes, and whether they are stored in memory or on disk.

    Attributes:
        feature_bytes: patch tokens of all layers.
        table_bytes: distances of all layers.
        working_bytes: needed in memory in any case: one prepared layer, the mean distances (counted twice, since they
            are copied if images are added), and the chunks that the stages copy.
        limit_bytes: upper limit of all that is in memory.
        reference_count: number of images that each image is compared with.
        degree_bytes: distances of one layer and degree, a part of `table_bytes`.
    """

    feature_bytes: int
    table_bytes: int
    working_bytes: int
    limit_bytes: int
    reference_count: int
    degree_bytes: int

    @property
    def tables_on_disk(self) -> bool:
        """Whether distances are stored on disk; before features, since they are larger and accessed in order."""
        return self.feature_bytes + self.table_bytes + self.working_bytes > self.limit_bytes

    @property
    def stored_bytes(self) -> int:
        """Bytes of features and distances that a resumable run stores in the workdir."""
        return self.feature_bytes + self.table_bytes

    @property
    def features_on_disk(self) -> bool:
        """Whether features are stored on disk too."""
        return self.feature_bytes + self.working_bytes > self.limit_bytes

    @property
    def memory_bytes(self) -> int:
        """Bytes of everything that is in memory."""
        return self.stored_bytes + self.working_bytes - self.disk_bytes

    @property
    def disk_bytes(self) -> int:
        """Bytes of features and distances that are on disk."""
        return self.tables_on_disk * self.table_bytes + self.features_on_disk * self.feature_bytes

    def allocate_tables(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> np.ndarray:
        """An array for distances, with undefined content."""
        return mapped(shape, dtype) if self.tables_on_disk else in_memory(shape, dtype)

    def allocate_features(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> np.ndarray:
        """An array for features, with undefined content."""
        return mapped(shape, dtype) if self.features_on_disk else in_memory(shape, dtype)

    def check(self, action: str) -> None:
        """Compares the estimate with the free memory and the free disk space.

        `action` is a value of `ResourcesConfig.check`.

        Raises:
            ConfigError: the run does not fit, and `action` is `refuse`.
        """
        refuse_or_warn(self._problem(), action)

    def _problem(self) -> str:
        """The reason why the run does not fit, with advice; empty if it fits."""
        free = free_memory()
        if self.memory_bytes > free:
            # everything that does not grow with the references has to fit first
            growing = MEAN_TABLES * self.degree_bytes + (not self.tables_on_disk) * self.table_bytes
            fewer = self.reference_count * (free - self.memory_bytes + growing) // growing if growing else 0
            fewer_fit = f"--config.similarity.references={fewer}, " if 1 < fewer < self.reference_count else ""
            return (
                f"the run needs about {self.memory_bytes / GIB:.1f} GiB of memory and {free / GIB:.1f} GiB "
                f"are free; {fewer_fit}a smaller input size (--size) or fewer photos may fit"
            )
        directory = tempfile.gettempdir()
        try:
            free = shutil.disk_usage(directory).free
        except OSError:
            return ""  # creating the first file reports the problem
        if self.disk_bytes > free:
            return (
                f"the run needs {self.disk_bytes / GIB:.1f} GiB of files and {directory!r} has {free / GIB:.1f} GiB "
                "free; set TMPDIR to a directory on a larger disk, or lower --config.similarity.references"
            )
        return ""

    def __str__(self) -> str:
        files = f" and {self.disk_bytes / GIB:.1f} GiB of files in {tempfile.gettempdir()}" if self.disk_bytes else ""
        return f"about {self.memory_bytes / GIB:.1f} GiB of memory{files}"


def refuse_or_warn(problem: str, action: str) -> None:
    """Refuses a run that has a problem (none if empty) if `action` is `refuse`; otherwise logs the problem.

    Raises:
        ConfigError: there is a problem, and `action` is `refuse`.
    """
    if problem and action == "refuse":
        raise ConfigError(f"{problem}. To start it anyway: --config.resources.check=warn")
    if problem:
        logger.warning("%s", problem)


def plan_run(config: Config, backbone: LoadedBackbone, image_count: int, frame: Frame) -> MemoryPlan:
    """The memory plan of this process for a detection of `image_count` images."""
    patches = frame.grid[0] * frame.grid[1]
    references = min(config.similarity.reference_count or image_count, image_count)
    layers, degrees = len(backbone.blocks), len(config.features.distance_degrees)
    # with a radius, the kernel reads separate vectors for each degree
    prepared_layers = degrees if config.similarity.radius != "all" else 1
    layer_bytes = feature_type(config.precision).itemsize * image_count * patches * backbone.width
    degree_bytes = 4 * image_count * references * patches
    # the graph is built after the prepared layer is freed
    working_bytes = max((1 + prepared_layers) * layer_bytes, GRAPHS * 4 * image_count**2) + MEAN_TABLES * degree_bytes
    working_bytes += COPIED_PARTS * COPIED_BYTES + COPIED_IMAGES * 4 * references * patches
    return MemoryPlan(
        feature_bytes=layers * layer_bytes,
        table_bytes=layers * degrees * degree_bytes,
        working_bytes=working_bytes,
        limit_bytes=memory_limit(config.resources),
        reference_count=references,
        degree_bytes=degree_bytes,
    )


def memory_limit(config: ResourcesConfig) -> int:
    """Bytes of features and distances that may be in memory."""
    return int(SHARE_OF_FREE * free_memory() if config.memory_gib is None else config.memory_gib * GIB)
