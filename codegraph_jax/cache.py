"""Features on disk: what a backbone has once said of an image, it need not say again.

An entry holds one block's normalised patch tokens of one image, or its image feature, so that a run with other blocks
or with further images costs only what is new. Its place is the digest of everything that the numbers depend on: the
weights, the architecture, the settings of the backbone, the kind of device, and the image's pixels as the backbone sees
them. Numbers are kept in float32 as they were computed: results with and without the cache are equal. Every entry
carries a digest of its content; one that does not fit counts as absent and is written anew.
"""

import dataclasses
import json
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from codegraph_jax.backbones import Backbone
from codegraph_jax.config import ConfigError
from codegraph_jax.data.batches import Batch
from codegraph_jax.data.files import whole_file
from codegraph_jax.data.tensors import READ_ERRORS
from codegraph_jax.progress import Progress

FORMAT = 1
"""Changes when the meaning of an entry does."""
SHA256 = re.compile(r"sha256 ([0-9a-f]{64})")

Outputs = tuple[list[Any], Any]
"""Of one batch: for each layer the tokens [v, p, c], and the image features [v, d]."""

logger = logging.getLogger(__name__)


def weights_identity(weights: str) -> str:
    """What of `Backbone.weights` stays the same where the same file lies elsewhere: its hash, if it has one."""
    found = SHA256.search(weights)
    return found.group() if found else weights


def image_key(image: Float[np.ndarray, "s s 3"]) -> bytes:
    """Digest of an image's pixels as the backbone sees them; equal for equal images, whatever their names."""
    return blake2b(image.tobytes(), digest_size=16).digest()


class FeatureCache:
    """The entries of one backbone with its settings in a directory that any number of backbones may share.

    Attributes:
        found: images whose features were all there.
        damaged: entries that could not be used as they were.
    """

    def __init__(self, directory: str, backbone: Backbone, image_size: int):
        """
        Raises:
            ConfigError: the directory cannot be made.
        """
        model = backbone.model
        settings = {
            "format": FORMAT,
            "weights": weights_identity(backbone.weights),
            "architecture": dataclasses.asdict(model.architecture),
            "final_norm": model.final_norm,
            "dtype": str(jnp.dtype(model.dtype)),
            "position_offset": model.position_offset,
            "image_size": image_size,
            # devices round differently
            "device": jax.devices()[0].device_kind,
        }
        text = json.dumps(settings, sort_keys=True)
        self._home = Path(directory).expanduser() / blake2b(text.encode(), digest_size=12).hexdigest()
        self._names = [f"block{block}" for block in backbone.blocks] + ["image"]
        self._hits: dict[int, tuple[bytes, list[np.ndarray]]] = {}
        self._writable = True
        self.damaged = 0
        try:
            self._home.mkdir(parents=True, exist_ok=True)
            if not (note := self._home / "settings.json").exists():
                with whole_file(note) as name:
                    Path(name).write_text(text + "\n", encoding="ascii")
        except OSError as error:
            raise ConfigError(f"config.data.cache: {directory!r} cannot be used: {error.strerror or error}") from None

    @property
    def found(self) -> int:
        return len(self._hits)

    def missing(self, batches: Iterable[Batch], progress: Progress) -> Iterator[Batch]:
        """Full batches, of the same form, of those images whose features are not all there; the others are kept.

        Args:
            batches: places, images and their number, as `data.batches` gives them.
            progress: called for every image that was found.
        """
        places: list[int] = []
        waiting: np.ndarray | None = None
        for indices, images, valid in batches:
            for index, image in zip(indices, images[:valid]):
                key = image_key(image)
                if (entries := self.read(key)) is not None:
                    self._hits[int(index)] = key, entries
                    progress(1)
                    continue
                if waiting is None:
                    waiting = np.zeros_like(images)
                waiting[len(places)] = image
                places.append(int(index))
                if len(places) == len(waiting):
                    yield np.array(places), waiting, len(places)
                    # a fresh array: the transfer to the device may still read the last one
                    places, waiting = [], None
        if waiting is not None:
            yield np.array(places), waiting, len(places)

    def read(self, key: bytes) -> list[np.ndarray] | None:
        """The tokens [p, c] of every block and the image feature [d]; None where one of them is missing."""
        entries = []
        for name in self._names:
            entry = self._read_entry(self._path(key, name))
            if entry is None:
                return None
            entries.append(entry)
        return entries

    def write(self, keys: Iterable[bytes], outputs: Outputs) -> Outputs:
        """Stores a batch and returns it as it lies on the host."""
        layers, features = outputs
        arrays = [np.asarray(x, np.float32) for x in (*layers, features)]
        for i, key in enumerate(keys):
            for name, array in zip(self._names, arrays):
                self._write_entry(self._path(key, name), array[i])
        return arrays[:-1], arrays[-1]

    def merge(
        self, outputs: list[Outputs], places: list[np.ndarray], keys: list[bytes], offset: int
    ) -> tuple[list[Outputs], list[np.ndarray], list[bytes]]:
        """Computed and found images in the order of the sources, as one batch.

        Args:
            outputs: batches that were computed.
            places: their images, counted from `offset`.
            keys: of the same images.
            offset: place of the first source of this process.
        """
        if self.damaged:
            logger.warning("%s: %d damaged entries were computed and written anew", self._home, self.damaged)
        rows = {index + offset: (key, entries) for index, (key, entries) in self._hits.items()}
        computed = (
            [part[i] for part in (*layers, features)] for layers, features in outputs for i in range(len(features))
        )
        for place, key, entries in zip(np.concatenate(places) if places else (), keys, computed):
            rows[int(place)] = key, entries
        if not rows:
            return [], [], []
        order = sorted(rows)
        stacked = [np.stack(parts) for parts in zip(*(rows[place][1] for place in order))]
        self._hits.clear()
        return [(stacked[:-1], stacked[-1])], [np.array(order)], [rows[place][0] for place in order]

    def _path(self, key: bytes, name: str) -> Path:
        text = key.hex()
        return self._home / text[:2] / f"{text[2:]}.{name}.safetensors"

    def _read_entry(self, path: Path) -> np.ndarray | None:
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                values, digest = file.get_tensor("values"), (file.metadata() or {}).get("digest")
        except READ_ERRORS:
            values, digest = None, None
        if values is None or values.dtype != np.float32 or digest != _digest(values):
            self.damaged += 1
            with suppress(OSError):
                path.unlink()  # so that the fresh one is written
            return None
        return values

    def _write_entry(self, path: Path, values: np.ndarray) -> None:
        if not self._writable or path.exists():
            return
        values = np.ascontiguousarray(values)
        try:
            with whole_file(path) as name:
                save_file({"values": values}, name, {"digest": _digest(values)})
        except (OSError, SafetensorError) as error:
            self._writable = False
            logger.warning("%s: no more features are kept: %s", self._home, error)


def _digest(values: Float[Array | np.ndarray, "..."]) -> str:
    return blake2b(np.ascontiguousarray(values).tobytes(), digest_size=16).hexdigest()
