"""The layers of a run as they stay on one device, put together batch by batch."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from codegraph_jax.core.sizes import padded
from codegraph_jax.core.transfers import filled, to_device, to_host


class DeviceLayer:
    """Patch tokens of one layer [n, p, c], the first n rows of a longer array on a device.

    It is read as an array is. How long the array is depends on n in few steps, and so do the programs that take it.
    """

    def __init__(self, rows: Float[Array, "s p c"], count: int):
        self.rows, self.count = rows, count

    @property
    def shape(self) -> tuple[int, int, int]:
        _, patches, channels = self.rows.shape
        return self.count, patches, channels

    @property
    def dtype(self) -> Any:
        return self.rows.dtype

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, images: Any) -> Array:
        """Tokens of an image, or of several."""
        if isinstance(images, int | np.integer):
            return self.of(np.array([images]))[0]
        chosen = np.arange(self.count)[images]
        return self.of(chosen)[: len(chosen)]

    def of(self, images: Int[np.ndarray, " b"]) -> Float[Array, "a p c"]:
        """Tokens of some images, and of the first one again up to a number that recurs: few programs serve."""
        (device,) = self.rows.devices()
        chosen = np.zeros(padded(len(images)), np.int32)
        chosen[: len(images)] = images
        return _images(self.rows, to_device(chosen, device))

    def weighted(
        self, images: Int[np.ndarray, " b"], weights: Float[np.ndarray, "b q p"]
    ) -> Float[np.ndarray, "b q c"]:
        """Weighted sums of the tokens of some images, on the host."""
        (device,) = self.rows.devices()
        given = np.zeros((padded(len(images)), *weights.shape[1:]), np.float32)
        given[: len(images)] = weights
        return to_host(_weighted(self.of(images), to_device(given, device)))[: len(images)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = to_host(self.rows)[: self.count]
        return values if dtype is None else values.astype(dtype)

    def __jax_array__(self) -> Array:
        return self.rows[: self.count]

    def where(self, judged: Bool[np.ndarray, "n p"]) -> "DeviceLayer":
        """The same with tokens of 0 where patches are not judged."""
        counts = np.zeros(self.rows.shape[:2], bool)
        counts[: self.count] = judged
        (device,) = self.rows.devices()
        return DeviceLayer(_where(self.rows, to_device(counts, device)), self.count)


class DeviceLayers:
    """Takes the layers of batches, in any order, and gives each as one array."""

    def __init__(self, rows: int, device: jax.Device):
        """
        Args:
            rows: of the arrays, one for each image of the run at least.
            device: where they stay.
        """
        self._size, self._device = rows, device
        self._layers: list[Array] = []

    def keep(self, places: Int[np.ndarray, " v"], layers: Sequence[Any]) -> None:
        """Takes a batch [b, p, c], of which the first v images count, at their places in the run."""
        if not self._layers:
            shapes = [(self._size, *layer.shape[1:]) for layer in layers]
            self._layers = [filled(s, 0, layer.dtype, self._device) for s, layer in zip(shapes, layers)]
        # what fills a batch up has no place
        there = np.full(len(layers[0]), self._size, np.int32)
        there[: len(places)] = places
        where = to_device(there, self._device)
        for number, layer in enumerate(layers):
            batch = to_device(layer, self._device) if isinstance(layer, np.ndarray) else layer
            self._layers[number] = _put(self._layers[number], batch, where)

    def joined(self, places: Int[np.ndarray, " k"]) -> list[DeviceLayer]:
        """Every layer, of the images at these places, which ascend."""
        if len(places) and places[-1] >= len(places):
            # some could not be read, or are copies
            chosen = np.zeros(self._size, np.int32)
            chosen[: len(places)] = places
            there = to_device(chosen, self._device)
            for number, rows in enumerate(self._layers):
                self._layers[number] = _images(rows, there)
        return [DeviceLayer(rows, len(places)) for rows in self._layers]


def only(layer: Any, judged: Bool[np.ndarray, "n p"]) -> Any:
    """A layer [n, p, c] with tokens of 0 where patches are not judged; in place where it is on the host."""
    if isinstance(layer, DeviceLayer):
        return layer.where(judged)
    if not isinstance(layer, np.ndarray):
        return jnp.where(judged[..., None], layer, 0)
    # image by image: a layer may be a mapped file
    for tokens, patches in zip(layer, judged):
        tokens[~patches] = 0
    return layer


def tokens_of(layer: Any, images: Int[np.ndarray, " b"]) -> Array | np.ndarray:
    """Tokens of some images of a layer [n, p, c]; from a device with others behind them, up to a number that recurs."""
    return layer.of(images) if isinstance(layer, DeviceLayer) else np.asarray(layer[images])


def weighted_tokens(
    layer: Any, images: Int[np.ndarray, " b"], weights: Float[np.ndarray, "b q p"]
) -> Float[np.ndarray, "b q c"]:
    """Weighted sums of the tokens of some images of a layer [n, p, c]."""
    if isinstance(layer, DeviceLayer):
        return layer.weighted(images, weights)
    sums = [some @ np.asarray(layer[int(image)], np.float32) for image, some in zip(images, weights)]
    return np.array(sums, np.float32).reshape(*weights.shape[:2], layer.shape[2])


def rows_on(device: jax.Device, layer: Any, images: slice, rows: int) -> Float[Array, "s p c"]:
    """Some images of a layer on a device, and anything behind them up to so many rows.

    Args:
        device: where they are to be; what is there already is not copied.
        layer: an array of the host or of a device, or a `DeviceLayer` [n, p, c].
        images: from which to which.
        rows: of the result [s].
    """
    there = layer.rows if isinstance(layer, DeviceLayer) else layer
    if isinstance(there, jax.Array) and there.devices() == {device}:
        if images.start == 0 and len(there) == rows:
            return there
        if images.stop - images.start == rows:
            return there[images]
    return to_device(host_rows(layer, images, rows), device)


def host_rows(layer: Any, images: slice, rows: int) -> Float[np.ndarray, "s p c"]:
    """`rows_on` for the host; what is behind the images is 0."""
    values = np.asarray(layer if images == slice(0, len(layer)) else layer[images])
    return values if len(values) == rows else filled_up(values, rows)


def filled_up(values: np.ndarray, rows: int) -> np.ndarray:
    """With zeros behind, up to so many rows."""
    whole = np.zeros((rows, *values.shape[1:]), values.dtype)
    whole[: len(values)] = values
    return whole


@partial(jax.jit, donate_argnums=0)
def _put(rows: Float[Array, "s p c"], batch: Float[Array, "b p c"], places: Int[Array, " b"]) -> Float[Array, "s p c"]:
    return rows.at[places].set(batch, mode="drop")


@jax.jit
def _images(rows: Float[Array, "s p c"], images: Int[Array, " b"]) -> Float[Array, "b p c"]:
    return rows[images]


@jax.jit
def _weighted(tokens: Float[Array, "b p c"], weights: Float[Array, "b q p"]) -> Float[Array, "b q c"]:
    def of(given: tuple[Array, Array]) -> Array:
        own, some = given
        return jnp.matmul(some, own.astype(jnp.float32), precision=lax.Precision.HIGHEST)

    return lax.map(of, (tokens, weights))


@partial(jax.jit, donate_argnums=0)
def _where(rows: Float[Array, "s p c"], judged: Bool[Array, "s p"]) -> Float[Array, "s p c"]:
    return jnp.where(judged[..., None], rows, 0)
