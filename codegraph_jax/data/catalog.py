"""Loads whole image sets into memory: arrays, folders, annotated sets, tensorflow-datasets."""

from pathlib import Path

import numpy as np
from PIL import Image

from codegraph_jax.core.names import composed
from codegraph_jax.data.annotated import from_boxes, from_table
from codegraph_jax.data.image_set import CatalogError, ImageSet, RowSelector, decoded_files, require_same_size, square
from codegraph_jax.data.images import load_image
from codegraph_jax.data.search import LayoutError, find_images, natural_key
from codegraph_jax.data.value_range import ValueRange

MAX_CLASSES = 100_000


def load_image_set(
    source: str,
    split: str = "",
    size: int | None = None,
    choose: RowSelector | None = None,
    least_side: int = 0,
    value_range: ValueRange | None = None,
) -> ImageSet:
    """Reads a whole image set.

    Args:
        source: one of
            "path.npz": arrays `x` (uint8 [n, h, w, 3], [n, h, w, 1] or [n, h, w]) and, if there are labels, `y` [n];
                with a split, `x_<split>` and `y_<split>`; texts in `classes` name the classes of all splits;
            "path.npy": the array `x` alone;
            "tfds:<name>": a tensorflow-datasets set of images and labels that has been prepared as array_record or
                parquet (`TFDS_DATA_DIR` or ~/tensorflow_datasets); TensorFlow is not needed to read it; "#<feature>"
                behind the name says which of its features is the class (`tfds:cifar100#coarse_label`);
            "csv:<table>": images beside a table of their classes, see `annotated.from_table`;
            "voc:<directory>": objects cut out of images, see `annotated.from_boxes`;
            a directory: one folder of images per class, in natural order, or images without classes; with a split, the
                subfolder of that name.
        split: the part to read, "" for all (tensorflow-datasets: for "train").
        size: None requires images of one size; otherwise the shorter side is resized to `size` (bilinear, antialiased)
            and the central square is cropped.
        choose: selects rows; None: all. Other images are not decoded.
        least_side: smaller objects of a "voc:" source, in pixels, are skipped.
        value_range: conversion of samples that do not have 8 bits; None: measured on the chosen images.

    Raises:
        CatalogError: the source does not exist, sizes differ without `size`, or a file or array is invalid.
    """
    if size is not None and size < 1:
        raise CatalogError(f"size must be 1 or more, got {size}")
    if source.startswith("tfds:"):
        return _from_tfds(source.removeprefix("tfds:"), split or "train", size, choose)
    if source.startswith("csv:"):
        return from_table(source.removeprefix("csv:"), split, size, choose, value_range)
    if source.startswith("voc:"):
        return from_boxes(source.removeprefix("voc:"), split, size, choose, least_side, value_range)
    suffix = Path(source).suffix.lower()
    if suffix in (".npz", ".npy"):
        return _from_arrays(source, split, size, choose)
    return _from_folder(source, split, size, choose, value_range)


def _from_arrays(file: str, split: str, size: int | None, choose: RowSelector | None) -> ImageSet:
    image_key, label_key = (f"x_{split}", f"y_{split}") if split else ("x", "y")
    arrays = _read_arrays(file, image_key)
    x = arrays.pop(image_key)
    if x.ndim == 3:
        x = x[..., None]
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[3] not in (1, 3) or x.size == 0:
        raise CatalogError(f"{file!r}: images must be uint8 [n, h, w, 3], got {x.dtype} {list(x.shape)}")
    labels_of, names = _array_labels(file, arrays, label_key)
    labels = labels_of.get(label_key)
    if labels is None:
        names = ()
    elif len(labels) != len(x):
        raise CatalogError(f"{file!r}: {label_key!r} has {len(labels)} labels for {len(x)} images")
    rows = slice(None) if choose is None else choose(len(x), labels, names)
    images = np.broadcast_to(x, (*x.shape[:3], 3))[rows]
    if len(images) and size is not None and images.shape[1:3] != (size, size):
        images = np.stack([square(Image.fromarray(np.ascontiguousarray(image)), size) for image in images])
    return ImageSet(np.ascontiguousarray(images), None if labels is None else labels[rows], names)


def _read_arrays(file: str, image_key: str) -> dict[str, np.ndarray]:
    """The images, all labels and the class names in a file."""
    try:
        with Path(file).open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                loaded = {"x": loaded}
            if image_key not in loaded:
                raise CatalogError(f"{file!r}: no array {image_key!r}; it holds {', '.join(loaded) or 'none'}")
            wanted = [image_key, "classes", *(f"y{key[1:]}" for key in loaded if key == "x" or key.startswith("x_"))]
            return {key: loaded[key] for key in wanted if key in loaded}
    except CatalogError:
        raise
    except OSError as error:
        raise CatalogError(f"{file!r}: {error.strerror or error}") from None
    except Exception as error:  # numpy and zipfile raise many kinds of exceptions for damaged files
        raise CatalogError(
            f"{file!r}: cannot be read as {Path(file).suffix}: {error or type(error).__name__}"
        ) from None


def _array_labels(
    file: str, arrays: dict[str, np.ndarray], label_key: str
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The labels of each split, and the class names of all splits: those of `classes`, or else numbers.

    Labels of other splits than that of `label_key` are left out if they are invalid.
    """
    given = arrays.pop("classes", None)
    labels = {}
    for key, y in arrays.items():
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        if y.ndim == 1 and y.dtype.kind in "iu" and (not y.size or 0 <= y.min() <= y.max() < MAX_CLASSES):
            labels[key] = y.astype(np.int32)
        elif key == label_key:
            raise CatalogError(
                f"{file!r}: {key!r} must be whole numbers [n] in [0, {MAX_CLASSES}), got {y.dtype} {list(y.shape)}"
            )
    count = max((int(y.max()) + 1 for y in labels.values() if y.size), default=0)
    if given is None:
        return labels, tuple(map(str, range(count)))
    if given.ndim != 1 or given.dtype.kind != "U" or len(set(given.tolist())) != len(given) or len(given) < count:
        raise CatalogError(f"{file!r}: 'classes' must have {count} or more different texts, one for each class")
    return labels, tuple(given.tolist())


def _from_folder(
    root: str, split: str, size: int | None, choose: RowSelector | None, value_range: ValueRange | None
) -> ImageSet:
    home = str(Path(root) / split) if split else root
    try:
        files = find_images(home)
    except LayoutError:
        raise CatalogError(f"{home!r}: is not an .npz file, an .npy file, or a readable directory") from None
    if not files:
        raise CatalogError(f"{home!r}: holds no images")
    loose = [name for name in files if "/" not in name]
    if loose and len(loose) < len(files):
        raise CatalogError(f"{home!r}: holds class folders and also images ({loose[0]!r}); move one of them")
    classes = [composed(name.split("/", 1)[0]) for name in files]
    names = () if loose else tuple(sorted(set(classes), key=natural_key))
    index = {name: i for i, name in enumerate(names)}
    labels = None if loose else np.array([index[name] for name in classes], np.int32)
    return decoded_files(list(files.values()), labels, names, size, choose, value_range)


def _from_tfds(name: str, split: str, size: int | None, choose: RowSelector | None) -> ImageSet:
    import tensorflow_datasets as tfds  # noqa: PLC0415  takes seconds, and only this source needs it

    name, _, chosen = name.partition("#")
    label = chosen or "label"
    try:
        builder = tfds.builder(name)
        source = builder.as_data_source(split)
    except Exception as error:  # each problem (name, split, not prepared, file format) has its own exception
        raise CatalogError(f"tfds:{name}, split {split!r}: {one_line(error)}. {how_to_prepare(name)}") from None
    features = builder.info.features
    if "image" not in features or len(source) == 0:
        raise CatalogError(f"tfds:{name}, split {split!r}: holds no images; its features are {', '.join(features)}")
    labelled = label in features and isinstance(features[label], tfds.features.ClassLabel)
    if chosen and not labelled:
        classes = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
        raise CatalogError(f"tfds:{name}#{chosen}: no such classes; it has {', '.join(sorted(classes)) or 'none'}")
    names = tuple(features[label].names) if labelled else ()
    rows = np.arange(len(source))
    if choose is not None:
        labels_of_all = None
        if labelled:
            undecoded = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
            labels_of_all = np.array([int(record[label]) for record in undecoded], np.int32)
        rows = choose(len(source), labels_of_all, names)
    images: list[np.ndarray] = []
    labels: list[int] = []
    for i in rows.tolist():
        record = source[i]
        array = np.asarray(record["image"])
        image = load_image(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)
        images.append(np.asarray(image) if size is None else square(image, size))
        require_same_size(images[0].shape[:2], images[-1].shape[:2], f"record {rows[0]} of {name}", f"record {i}")
        if labelled:
            labels.append(int(record[label]))
    stacked = np.stack(images) if images else np.zeros((0, size or 1, size or 1, 3), np.uint8)
    return ImageSet(stacked, np.array(labels, np.int32) if labelled else None, names)


def one_line(error: Exception) -> str:
    """The beginning of an error's message on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def how_to_prepare(name: str) -> str:
    """Advice if a set of tensorflow-datasets cannot be read."""
    return (
        "A set is prepared once, which may need TensorFlow (the extra `tfds`): "
        f"python -c \"import tensorflow_datasets as tfds; tfds.builder({name!r}, file_format='array_record')"
        '.download_and_prepare()"'
    )
