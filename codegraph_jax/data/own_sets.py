"""Data sets of the user's own: torch-style datasets and iterables as samples, and classes as layouts.

An item of a dataset is an image, a pair (image, label), a triple (image, label, mask), or a dictionary with `image` and
any of `label`, `mask`, `defect` and `name`. An image is a file, a Pillow image, or an array or tensor: whole numbers
from 0 to 255 or floats from 0 to 1, [h, w], [h, w, c] or [c, h, w].
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from codegraph_jax.core.errors import UserError
from codegraph_jax.data.samples import Categories, Sample, Samples
from codegraph_jax.data.search import LayoutError

CHANNELS = (1, 3, 4)
OWN: set[str] = set()
"""Layouts that were added."""


def as_samples(dataset: Any, name: str = "image") -> list[Sample]:
    """The items of a dataset as samples (`codegraph_jax.data.own_sets` lists the items that are understood).

    Args:
        dataset: an object with `__len__` and `__getitem__`, such as a dataset of PyTorch, whose items are read once
            for their labels and again whenever the pixels are needed; or any iterable, such as a `tf.data.Dataset`,
            whose images are kept in memory.
        name: images without a file or a name are called NAME[0], NAME[1], ...

    Raises:
        UserError: an item is none of these; names its index.
    """
    if not isinstance(dataset, Mapping | str | bytes):
        if hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__"):
            return [_sample(dataset[i], f"{name}[{i}]", partial(_image_at, dataset, i)) for i in range(len(dataset))]
        if hasattr(dataset, "as_numpy_iterator"):
            dataset = dataset.as_numpy_iterator()
        if isinstance(dataset, Iterable):
            return [_sample(item, f"{name}[{i}]") for i, item in enumerate(dataset)]
    raise UserError(f"a {type(dataset).__name__} is neither a dataset nor an iterable of images")


def add_layout(name: str, make: Callable[[str], Samples | Mapping[str, Samples]]) -> None:
    """Makes a class of yours a layout: `config.data.layout = name` in the config that calls this.

    Args:
        name: name of the layout.
        make: returns the samples of a set, or {category: samples}, for the value of `config.data.root`.

    Raises:
        LayoutError: a layout of this package has this name.
    """
    from codegraph_jax.data.layouts import LAYOUTS

    if name in LAYOUTS and name not in OWN:
        raise LayoutError(f"config.data.layout: {name!r} is a layout of this package; choose another name")

    def read(root: str, good: Sequence[str] = ()) -> Categories:
        """A layout that was added with add_layout."""
        made = make(root)
        sets = made if isinstance(made, Mapping) else {name: made}
        return {
            category: partial(_listed, name, category, samples, frozenset(good)) for category, samples in sets.items()
        }

    OWN.add(name)
    LAYOUTS[name] = read


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
        label = int(sample.defect not in good) if good and sample.defect is not None else sample.label
        listed[sample.name] = replace(sample, category=category, label=label)
    return list(listed.values())


def _sample(item: Any, name: str, read: Callable[[], np.ndarray] | None = None) -> Sample:
    """A sample of an item; `read` reads its pixels again, None keeps them."""
    if isinstance(item, Sample):
        return item
    fields = _fields(item, name)
    image, mask = fields["image"], fields.get("mask")
    if mask is not None:
        mask = mask if isinstance(mask, str) else _array(mask, name).squeeze()
    label = fields.get("label")
    label = None if label is None else _label(label, name)
    own_name = _text(fields["name"]) if fields.get("name") is not None else ""
    defect = None if fields.get("defect") is None else _text(fields["defect"])
    sample = Sample.of(
        image if _is_path(image) else pixels(image, name),
        own_name or ("" if _is_path(image) else name),
        label=label,
        mask=mask,
        defect=defect,
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


def _image_at(dataset: Any, index: int) -> np.ndarray:
    name = f"item {index}"
    return pixels(_fields(dataset[index], name)["image"], name)


def pixels(image: Any, name: str = "image") -> np.ndarray:
    """An array, tensor or Pillow image as uint8 [h, w, 3] or [h, w].

    Raises:
        UserError: another shape, or values outside 0 to 255 (whole numbers) or 0 to 1 (floats).
    """
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
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
    if array.dtype == object:
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
