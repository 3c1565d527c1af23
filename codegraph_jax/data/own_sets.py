"""Turns the images and datasets of a caller into samples, and classes into layouts.

An item of a list or dataset is a `Sample`, an image, a pair (image, label), a triple (image, label, mask), or a
dictionary with `image` and any of `label`, `mask`, `photo_type` and `name`. An image is a file, a Pillow image, or an
array or tensor: whole numbers from 0 to 255 or floats from 0 to 1, [h, w], [h, w, c] or [c, h, w].
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from PIL import Image, ImageFile

from codegraph_jax.core.errors import UserError
from codegraph_jax.data import layouts
from codegraph_jax.data.decoding import detached
from codegraph_jax.data.folders import read_folder
from codegraph_jax.data.samples import Categories, Sample, Samples, label_by_type
from codegraph_jax.data.search import LayoutError

CHANNELS = (1, 3, 4)
SHIPPED = frozenset(layouts.LAYOUTS)
"""Layouts of this package."""

ImagesLike = str | os.PathLike[str] | Iterable[Any] | Samples
"""Types that `as_samples` accepts."""


def as_samples(images: ImagesLike, name: str = "images") -> list[Sample]:
    """Images as samples (`codegraph_jax.data.own_sets` lists the items that are understood).

    Args:
        images: a list of images; an array [n, h, w, 3] or [n, h, w]; a directory, whose photos are read in natural
            order; an object with `__len__` and `__getitem__`, such as a dataset of PyTorch, whose items are read once
            for their labels and again whenever the pixels are needed; or any iterable, such as a `tf.data.Dataset`,
            whose images are kept in memory.
        name: images without a file or a name are called NAME[0], NAME[1], ...

    Raises:
        UserError: `images` is a single image, or an item is not an image; names its index.
        LayoutError: the directory cannot be listed or contains no photos.
    """
    if isinstance(images, str | os.PathLike):
        return _in_directory(os.fspath(images), name)
    if isinstance(images, np.ndarray):
        single = images.ndim < 3 or (images.ndim == 3 and images.shape[2] in CHANNELS)
        if single or images.ndim > 4:
            raise UserError(
                f"{name}: an array {list(images.shape)} is {'a single image' if single else 'not a list of images'}; "
                "give a list of images, or an array [n, h, w, 3] or [n, h, w]"
            )
    elif (
        isinstance(images, Sized)
        and hasattr(images, "__getitem__")
        and not isinstance(images, list | tuple | Mapping | bytes)
    ):
        return [_sample(images[i], f"{name}[{i}]", partial(_image_at, images, i)) for i in range(len(images))]
    elif hasattr(images, "as_numpy_iterator"):
        images = images.as_numpy_iterator()
    if isinstance(images, Mapping | bytes | Image.Image | Sample) or not isinstance(images, Iterable):
        raise UserError(f"{name}: a single {type(images).__name__} was given; give a list of images, or a dataset")
    return [_sample(item, f"{name}[{i}]") for i, item in enumerate(images)]


def _in_directory(directory: str, name: str) -> list[Sample]:
    if not Path(directory).is_dir():
        kind = "a single file" if Path(directory).is_file() else "not a directory"
        raise UserError(f"{name}: {directory!r} is {kind}; give a list of files, or a directory of photos")
    (read,) = read_folder(directory).values()
    return read()


def add_layout(name: str, make: Callable[[str], Samples | Mapping[str, Samples]]) -> None:
    """Makes a class of yours a layout: `config.data.layout = name` in the config that calls this.

    Args:
        name: name of the layout.
        make: returns the samples of a set, or {category: samples}, for the value of `config.data.root`.

    Raises:
        LayoutError: a layout of this package has this name.
    """
    if name in SHIPPED:
        raise LayoutError(f"config.data.layout: {name!r} is a layout of this package; choose another name")

    def read(root: str, good: Sequence[str] = ()) -> Categories:
        """A layout that was added with add_layout."""
        made = make(root)
        sets = made if isinstance(made, Mapping) else {name: made}
        return {
            category: partial(_listed, name, category, samples, frozenset(good)) for category, samples in sets.items()
        }

    layouts.LAYOUTS[name] = read


def _listed(layout: str, category: str, samples: Samples, good: frozenset[str]) -> list[Sample]:
    """The checked samples of a category; `good` replaces the labels of samples with a type."""
    listed: dict[str, Sample] = {}
    for i in range(len(samples)):
        sample, where = samples[i], f"config.data.layout {layout!r}: item {i}"
        if not isinstance(sample, Sample):
            raise LayoutError(f"{where} is a {type(sample).__name__}; return a Sample, see codegraph_jax.data.samples")
        # results are written below directories of this name
        if not sample.name or sample.name.startswith("/") or ".." in sample.name.split("/"):
            raise LayoutError(f"{where}: name {sample.name!r} is not a relative path")
        if sample.name in listed:
            raise LayoutError(f"{where}: another image is called {sample.name!r} too; give each a name of its own")
        label = label_by_type(sample.photo_type, good)
        listed[sample.name] = replace(sample, category=category, label=sample.label if label is None else label)
    return list(listed.values())


def _sample(item: Any, name: str, read: Callable[[], np.ndarray | Image.Image] | None = None) -> Sample:
    """A sample of an item; `read` reads its pixels again, None keeps them."""
    if isinstance(item, Sample):
        return item
    fields = _fields(item, name)
    image, mask = fields["image"], fields.get("mask")
    if read is None and isinstance(image, ImageFile.ImageFile):
        try:
            image = detached(image)
        except Exception as error:  # reported when the pixels are needed, as for files
            read = partial(_raise, error)
    if mask is not None:
        mask = mask if isinstance(mask, str) else _array(mask, name).squeeze()
    label = fields.get("label")
    label = None if label is None else _label(label, name)
    own_name = _text(fields["name"]) if fields.get("name") is not None else ""
    photo_type = None if fields.get("photo_type") is None else _text(fields["photo_type"])
    sample = Sample.of(
        image if _is_path(image) else _picture(image, name),
        own_name or ("" if _is_path(image) else name),
        label=label,
        mask=mask,
        photo_type=photo_type,
    )
    return sample if sample.is_file or read is None else replace(sample, read=read)


def _fields(item: Any, name: str) -> Mapping[str, Any]:
    if isinstance(item, Mapping):
        if "image" not in item:
            raise UserError(f"{name}: holds {', '.join(map(str, item)) or 'nothing'}, but no `image`")
        return item
    if isinstance(item, tuple | list):
        if not 1 <= len(item) <= 3:
            raise UserError(f"{name}: has {len(item)} parts; give (image, label, mask), or a dictionary")
        return dict(zip(("image", "label", "mask"), item))
    return {"image": item}


def _raise(error: Exception) -> NoReturn:
    raise error


def _image_at(dataset: Any, index: int) -> np.ndarray | Image.Image:
    name = f"item {index}"
    return _picture(_fields(dataset[index], name)["image"], name)


def _picture(image: Any, name: str) -> np.ndarray | Image.Image:
    """A Pillow image, or the `pixels` of another image."""
    return image if isinstance(image, Image.Image) else pixels(image, name)


def pixels(image: Any, name: str = "image") -> np.ndarray:
    """An array or tensor as uint8 [h, w, 3] or [h, w].

    Raises:
        UserError: another shape, or values outside 0 to 255 (whole numbers) or 0 to 1 (floats).
    """
    array = _array(image, name)
    if array.ndim == 3 and array.shape[0] in CHANNELS and array.shape[2] not in CHANNELS:
        array = np.moveaxis(array, 0, 2)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or not array.size:
        raise UserError(f"{name}: an array {list(array.shape)} is not an image; give [h, w], [h, w, 3] or [3, h, w]")
    if array.dtype == np.uint8:
        return array
    most = 1 if array.dtype.kind == "f" else 255
    if array.dtype.kind not in "fiu" or not (array.min() >= 0 and array.max() <= most):
        raise UserError(
            f"{name}: {array.dtype} values from {array.min():g} to {array.max():g}; give floats from 0 to 1, without a "
            "normalisation by mean and deviation, or whole numbers from 0 to 255"
        )
    return np.rint(array * 255).astype(np.uint8) if most == 1 else array.astype(np.uint8)


def _array(value: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(value)
    except Exception as error:  # tensors on a device, or with gradients, raise errors of their library
        raise UserError(f"{name}: cannot become an array ({error}); return it on the CPU, detached") from None
    if array.dtype == object or not array.ndim:
        raise UserError(f"{name}: a {type(value).__name__} is not an image")
    return array


def _label(value: Any, name: str) -> int:
    array = np.asarray(value)
    if array.size != 1 or array.item() not in (0, 1):
        raise UserError(f"{name}: label {value!r} is neither 0 (good) nor 1 (defective)")
    return int(array.item())


def _is_path(value: Any) -> bool:
    return isinstance(value, str) or hasattr(value, "__fspath__")


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
