"""Saves the features and distances of a category while it is being compared."""

import logging
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from codegraph_jax.backbones import LoadedBackbone
from codegraph_jax.config import Config
from codegraph_jax.core.mapped_arrays import Allocate
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.core.tensors import DamagedTensorsError, read_tensors, write_tensors
from codegraph_jax.data.frame import Frame
from codegraph_jax.features.cache import FeatureCache
from codegraph_jax.features.memory import feature_type
from codegraph_jax.features.stores import BatchFeatures, StoredFeatures
from codegraph_jax.resume.budget import Budget

logger = logging.getLogger(__name__)


class PartialRun:
    """Saves and restores what `CoDeGraph.compare` computes, keyed by digests of the images' pixels.

    Features that `data.cache` saves already are not saved; with `resume_data=keep` writing may take any time.

    Attributes:
        loaded_image_count: number of images whose features were restored.
        loaded_layer_count: number of layers whose distances were restored.
    """

    def __init__(self, directory: Path, config: Config, backbone: LoadedBackbone, frame: Frame):
        self._directory, self._budget = directory, Budget(directory, at_any_cost=config.resume_data == "keep")
        self._degree_count = len(config.features.distance_degrees)
        self._features: FeatureCache | None = None
        self._resumed = directory.is_dir()
        self.loaded_image_count = self.loaded_layer_count = 0
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if not config.data.cache:
                dtype = feature_type(config.precision)
                self._features = FeatureCache(str(directory / "features"), backbone, frame, dtype)
        except (OSError, ConfigError) as error:
            self._budget.close(error)

    def load(self, keys: Sequence[bytes]) -> list[StoredFeatures | None]:
        """The saved features of a batch, or only None if any image is missing.

        Batches are not mixed, since the features of an image may round differently in another batch.
        """
        nothing: list[StoredFeatures | None] = [None] * len(keys)
        if not self._features or not self._resumed:
            return nothing
        found = self._features.load(keys)
        if any(entry is None for entry in found):
            return nothing
        self.loaded_image_count += len(found)
        return found

    def save(self, indices: Int[np.ndarray, " v"], keys: Sequence[bytes], features: BatchFeatures) -> None:
        """Saves the features of a batch if the budget allows it."""
        size = sum(layer.nbytes for layer in (*features.layers, features.image_features))
        if self._features and self._budget.allows("features", size):
            with self._budget.spend("features"):
                self._features.save(indices, keys, features)

    def load_table(self, layer: int, identity: str, allocate: Allocate) -> Float[np.ndarray, "r n m p"] | None:
        """The saved distances of one layer, see `stores.ResumeStore`; None unless the layer is complete."""
        table = self._read_table(layer, identity, allocate) if self._resumed else None
        self.loaded_layer_count += table is not None
        return table

    def save_table(
        self, layer: int, identity: str, table: Iterable[Float[np.ndarray, "n m p"]], shape: tuple[int, ...]
    ) -> None:
        """Saves the distances of one layer if the budget allows it; arguments as for `stores.ResumeStore`."""
        if self._budget.allows("table", math.prod(shape) * np.dtype(np.float32).itemsize):
            with self._budget.spend("table"):
                # one file per degree, since writing copies the content of a file in memory
                for degree, of_degree in enumerate(table):
                    write_tensors(self._file(layer, degree), {"distances": of_degree}, _about(identity, layer, degree))

    def _file(self, layer: int, degree: int) -> Path:
        return self._directory / f"layer{layer}-degree{degree}.safetensors"

    def _read_table(self, layer: int, identity: str, allocate: Allocate) -> np.ndarray | None:
        table = None
        for degree in range(self._degree_count):
            of_degree = self._read_degree(layer, degree, identity)
            if of_degree is None:
                return None
            if table is None:
                table = allocate((self._degree_count, *of_degree.shape))
            table[degree] = of_degree
        return table

    def _read_degree(self, layer: int, degree: int, identity: str) -> np.ndarray | None:
        path = self._file(layer, degree)
        try:
            arrays, about = read_tensors(path)
            if about != _about(identity, layer, degree):
                raise DamagedTensorsError("it belongs to other images")
            return arrays["distances"]
        except FileNotFoundError:
            return None
        except (DamagedTensorsError, KeyError) as error:
            logger.warning("%s: cannot be used (%s); computing it again", path, error)
            return None


def _about(identity: str, layer: int, degree: int) -> dict[str, str | int]:
    return {"images": identity, "layer": layer, "degree": degree}
