"""On-disk feature cache, with which a backbone processes each image only once.

An entry holds the normalised patch tokens of one block for one image, or its image feature; a run with other blocks or
more images computes only missing entries. The path of an entry is a digest of everything that the numbers depend on:
weights, architecture, settings of the backbone, kind of device, and the preprocessed pixels. float32 and bfloat16
tokens have separate entries, so that results with and without the cache are equal. Each file contains its own name and
a digest of its content; if one does not match, the entry is computed and written again.
"""

import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Int
from numpy.typing import DTypeLike

from codegraph_jax.backbones import LoadedBackbone
from codegraph_jax.core.files import whole_file
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.core.tensors import DamagedTensorsError, read_tensors, write_tensors
from codegraph_jax.data.frame import Frame
from codegraph_jax.features.stores import BatchFeatures, StoredFeatures

FORMAT = 3
"""Version of the entries."""
IMAGE = "image"
"""Name of the entry with the image feature, in float32."""

logger = logging.getLogger(__name__)


class FeatureCache:
    """The entries of one backbone with its settings; several backbones can share a directory.

    Args:
        directory: created if it does not exist.
        backbone: the backbone that computes the features.
        frame: conversion of the photos to grids of patches.
        dtype: type of the patch tokens.

    Attributes:
        damaged: number of damaged entries.

    Raises:
        ConfigError: the directory cannot be created.
    """

    def __init__(self, directory: str, backbone: LoadedBackbone, frame: Frame, dtype: DTypeLike = np.float32):
        self._dtype = np.dtype(dtype)
        # devices round differently
        settings = backbone.identity | {"format": FORMAT, "device": jax.devices()[0].device_kind}
        settings |= {"frame": frame.as_json(), "tokens": str(self._dtype)}
        text = json.dumps(settings, sort_keys=True)
        self._directory = Path(directory).expanduser() / blake2b(text.encode(), digest_size=12).hexdigest()
        self._names = [f"block{block}" for block in backbone.blocks] + [IMAGE]
        self._writable = True
        self.damaged = 0
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            if not (settings_file := self._directory / "settings.json").exists():
                with whole_file(settings_file) as name:
                    Path(name).write_text(text + "\n", encoding="ascii")
        except OSError as error:
            raise ConfigError(f"config.data.cache: {directory!r} cannot be used: {error.strerror or error}") from None

    def load(self, keys: Sequence[bytes]) -> list[StoredFeatures | None]:
        """The features of each image, None unless all of its entries are found."""
        return [self._load_one(key) for key in keys]

    def _load_one(self, key: bytes) -> StoredFeatures | None:
        """The tokens [p, c] of every layer and the image feature [d]; None if an entry is missing."""
        entries = []
        for name in self._names:
            entry = self._read_entry(self._path(key, name), np.float32 if name == IMAGE else self._dtype)
            if entry is None:
                return None
            entries.append(entry)
        return StoredFeatures(entries[:-1], entries[-1])

    def save(self, indices: Int[np.ndarray, " v"], keys: Sequence[bytes], features: BatchFeatures) -> None:
        """Writes the entries of a batch."""
        arrays = [*(np.asarray(x, self._dtype) for x in features.layers)]
        arrays.append(np.asarray(features.image_features, np.float32))
        for i, key in enumerate(keys):
            for name, array in zip(self._names, arrays):
                self._write_entry(self._path(key, name), array[i])

    def warn_of_damage(self) -> None:
        """Logs a warning with the number of damaged entries, if there were any."""
        if self.damaged:
            logger.warning("%s: %d damaged entries were computed and written again", self._directory, self.damaged)

    def _path(self, key: bytes, name: str) -> Path:
        text = key.hex()
        return self._directory / text[:2] / f"{text[2:]}.{name}.safetensors"

    def _read_entry(self, path: Path, dtype: DTypeLike) -> np.ndarray | None:
        try:
            arrays, about = read_tensors(path)
            values = arrays.get("values") if about == path.name else None
        except FileNotFoundError:
            return None
        except DamagedTensorsError:
            values = None
        if values is None or values.dtype != dtype:
            self.damaged += 1
            with suppress(OSError):
                path.unlink()  # existing files are not overwritten
            return None
        return values

    def _write_entry(self, path: Path, values: np.ndarray) -> None:
        if not self._writable or path.exists():
            return
        try:
            write_tensors(path, {"values": values}, path.name)
        except OSError as error:
            self._writable = False
            logger.warning("%s: cannot be written (%s); no more features are cached", self._directory, error)
