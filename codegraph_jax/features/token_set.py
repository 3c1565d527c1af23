"""Tokens that were computed elsewhere, in memory or in files, and are read like photos: each process its own batches.

The tokens of all layers of an image, and its image feature, are packed into one row, which stands for its pixels.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, overload

import numpy as np
from jaxtyping import Float, Int
from safetensors import safe_open

from codegraph_jax.core.errors import UserError
from codegraph_jax.core.tensors import READ_ERRORS
from codegraph_jax.data.batches import Batch, image_key

IMAGE_FEATURES = "image_features"
"""Tensor of a .safetensors file with image features; all others are layers, in the order of their names."""


class TokensError(UserError):
    """Given tokens cannot be read, or do not fit together."""


class TokenSet(Sequence[Any]):
    """The tokens of n images.

    Args:
        layers: for each layer an array [n, p, c] or [n, h, w, c], or the path of a .npy file with one; one such array
            or file; or the path of a .safetensors file with the tensors of all layers. Files are mapped.
        grid: (h, w) with h * w = p; None: from the shapes.
        image_features: an array [n, d] or the path of a .npy file; None: the mean over the patches of the last layer,
            unless the .safetensors file has `image_features`.

    Attributes:
        grid: (h, w).
        widths: channels of each layer.
        has_image_features: whether image features were given.

    Raises:
        TokensError: a file cannot be read, or shapes do not fit together.
    """

    def __init__(self, layers: Any, grid: tuple[int, int] | None = None, image_features: Any = None):
        self._layers, stored_feature = _opened_layers(layers)
        self._image = stored_feature if image_features is None else _opened(image_features, IMAGE_FEATURES)
        self.grid = _checked_grid(self._layers, grid, self._image)
        self.widths = tuple(int(layer.shape[-1]) for layer in self._layers)
        self.has_image_features = self._image is not None
        self._range = range(self._layers[0].shape[0])

    def __len__(self) -> int:
        return len(self._range)

    @overload
    def __getitem__(self, index: int) -> Float[np.ndarray, " k"]: ...
    @overload
    def __getitem__(self, index: slice) -> "TokenSet": ...

    def __getitem__(self, index: Any) -> Any:
        """The packed tokens of an image, or some of the images, whose tokens are not read yet."""
        if isinstance(index, slice):
            selected = object.__new__(TokenSet)
            selected.__dict__ |= self.__dict__ | {"_range": self._range[index]}
            return selected
        return self._rows(self._range[index : index + 1] if index >= 0 else self._range[index:][:1])[0]

    def _rows(self, images: range) -> Float[np.ndarray, "b k"]:
        arrays = [*self._layers, *([] if self._image is None else [self._image])]
        read = [np.asarray(array[images.start : images.stop]).astype(np.float32) for array in arrays]
        return np.concatenate([array.reshape(len(images), -1) for array in read], axis=1)


class TokenBatches:
    """Batches of packed tokens, with the attributes of `ImageBatches`."""

    def __init__(self, tokens: TokenSet, size: int):
        self._tokens, self._size = tokens, size
        rows, columns = tokens.grid
        self.skipped: list[tuple[int, str]] = []
        self.grey_levels: dict[int, int] = {}
        self.sizes = dict.fromkeys(range(len(tokens)), (columns, rows))

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self._tokens), self._size):
            selected = self._tokens[start : start + self._size]
            packed = selected._rows(selected._range)
            indices: Int[np.ndarray, " v"] = np.arange(start, start + len(packed))
            batch = np.zeros((self._size, packed.shape[1]), np.float32)
            batch[: len(packed)] = packed
            yield Batch(indices, list(map(image_key, packed)), batch)


class _StoredTensor:
    """A tensor of a .safetensors file, of which rows are read on demand."""

    def __init__(self, path: Path, name: str):
        self._path, self._name = path, name
        self._values = safe_open(path, framework="numpy").get_slice(name)
        self.shape = tuple(self._values.get_shape())

    def __getitem__(self, rows: slice) -> np.ndarray:
        try:
            return self._values[rows]
        except READ_ERRORS as error:
            raise TokensError(f"{self._path}: {self._name!r} cannot be read ({error})") from None


def _opened_layers(layers: Any) -> tuple[list[Any], Any]:
    """The layers, and image features that lie in the same file."""
    if isinstance(layers, str | os.PathLike) and Path(layers).suffix == ".safetensors":
        path = Path(layers)
        try:
            names = sorted(safe_open(path, framework="numpy").keys())
            tensors = {name: _StoredTensor(path, name) for name in names}
        except READ_ERRORS as error:
            raise TokensError(f"layers: {str(path)!r} cannot be read ({error})") from None
        image = tensors.pop(IMAGE_FEATURES, None)
        if not tensors:
            raise TokensError(f"layers: {str(path)!r} has no tensor with tokens")
        return list(tensors.values()), image
    if isinstance(layers, list | tuple):
        if not layers:
            raise TokensError("layers: is empty; give an array [n, p, c] for each layer")
        return [_opened(layer, f"layers[{i}]") for i, layer in enumerate(layers)], None
    return [_opened(layers, "layers")], None


def _opened(values: Any, where: str) -> Any:
    """An array, or the mapped content of a .npy file."""
    if isinstance(values, str | os.PathLike):
        path = Path(values)
        if path.suffix != ".npy":
            raise TokensError(
                f"{where}: {str(path)!r} is not a .npy file; other files that are read are .safetensors with all layers"
            )
        try:
            values = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise TokensError(f"{where}: {str(path)!r} cannot be read ({error})") from None
    with suppress(TypeError, AttributeError):
        if len(values.shape) and np.issubdtype(np.asarray(values[:0]).dtype, np.number):
            return values
    # bfloat16 of ml_dtypes is no numpy number
    if getattr(getattr(values, "dtype", None), "name", "") == "bfloat16":
        return values
    raise TokensError(f"{where}: is a {type(values).__name__}; give an array of numbers, or the path of a .npy file")


def _checked_grid(layers: Sequence[Any], grid: tuple[int, int] | None, image: Any) -> tuple[int, int]:
    """The grid of the layers, after their shapes are checked."""
    if grid is not None and not (
        isinstance(grid, tuple | list) and len(grid) == 2 and all(isinstance(side, int) and side > 0 for side in grid)
    ):
        raise TokensError(f"grid: is {grid!r}; give (rows, columns) of patches")
    count = layers[0].shape[0]
    sides = None if grid is None else (grid[0], grid[1])
    for number, layer in enumerate(layers):
        shape = tuple(layer.shape)
        where = f"layers[{number}]: has shape {list(shape)}"
        if len(shape) not in (3, 4) or not all(shape):
            raise TokensError(f"{where}; give [images, patches, channels] or [images, rows, columns, channels]")
        if len(shape) == 4:
            sides = sides or (shape[1], shape[2])
        if sides is None:
            raise TokensError(f"{where}; give grid=(rows, columns) with rows * columns = {shape[1]}")
        if shape[0] != count or shape[1:-1] not in (sides, (sides[0] * sides[1],)):
            raise TokensError(
                f"{where}; needed are {count} images with a grid of {sides[0]} x {sides[1]} = {sides[0] * sides[1]} "
                "patches (without class token), the same for all layers"
            )
    if image is not None and (len(image.shape) != 2 or image.shape[0] != count or not image.shape[1]):
        raise TokensError(f"{IMAGE_FEATURES}: has shape {list(image.shape)}; needed is [{count}, d]")
    assert sides is not None
    return sides
