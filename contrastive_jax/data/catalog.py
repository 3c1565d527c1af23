"""Loads whole image sets into memory: drawn patterns, arrays, folders, annotated sets, tensorflow-datasets."""

from pathlib import Path

import numpy as np

from codegraph_jax.core.names import composed
from codegraph_jax.data.own_sets import as_samples
from codegraph_jax.data.samples import Sample
from codegraph_jax.data.search import LayoutError, find_images
from codegraph_jax.data.tfds_layout import PREFIX, class_names, prepared_set, read_split
from codegraph_jax.data.value_range import ValueRange
from contrastive_jax.data.annotated import list_boxes, list_table
from contrastive_jax.data.image_set import ImageList, ImageSet, decode, indexed
from contrastive_jax.data.patterns import draw_patterns

MAX_CLASSES = 100_000


def load_image_set(
    source: str, split: str, size: int, min_box_side: int = 0, value_range: ValueRange | None = None
) -> ImageSet:
    """Reads a whole image set, see `list_image_set` and `image_set.decode`."""
    return decode(list_image_set(source, split, size, min_box_side), size, value_range=value_range)


def list_image_set(source: str, split: str, size: int, min_box_side: int = 0) -> ImageList:
    """Lists the images of a set and their classes; no file of an image is decoded.

    Args:
        source: one of
            "patterns": drawn patterns, see `patterns.draw_patterns`;
            "path.npz": arrays `x` (uint8 [n, h, w, 3], [n, h, w, 1] or [n, h, w]) and, if there are labels, `y` [n];
                with a split, `x_<split>` and `y_<split>`; texts in `classes` name the classes of all splits;
            "path.npy": the array `x` alone;
            "tfds:<name>": a tensorflow-datasets set of images and labels that has been prepared as array_record or
                parquet (`TFDS_DATA_DIR` or ~/tensorflow_datasets); TensorFlow is not needed to read it; "#<feature>"
                behind the name says which of its features is the class (`tfds:cifar100#coarse_label`);
            "csv:<table>": images beside a table of their classes, see `annotated.list_table`;
            "voc:<directory>": objects cut out of images, see `annotated.list_boxes`;
            a directory: one folder of images per class, or images without classes; with a split, the subfolder of that
                name.
            Classes of tables, boxes and folders are numbered in natural order without regard to case.
        split: the part to read, "" for all (tensorflow-datasets: for "train").
        size: side of drawn patterns in pixels; other images are resized when they are decoded.
        min_box_side: smaller objects of a "voc:" source, in pixels, are skipped.

    Raises:
        LayoutError: the source does not exist, or a file or array is invalid.
    """
    if source == "patterns":
        drawn = draw_patterns(split, size)
        return ImageList(as_samples(list(drawn.images)), drawn.labels, drawn.class_names)
    if source.startswith(PREFIX):
        return _list_tfds(source, split or "train")
    if source.startswith("csv:"):
        return list_table(source.removeprefix("csv:"), split)
    if source.startswith("voc:"):
        return list_boxes(source.removeprefix("voc:"), split, min_box_side)
    if Path(source).suffix.lower() in (".npz", ".npy"):
        return _list_arrays(source, split)
    return _list_folder(source, split)


def _list_arrays(file: str, split: str) -> ImageList:
    image_key, label_key = (f"x_{split}", f"y_{split}") if split else ("x", "y")
    arrays = _read_arrays(file, image_key)
    x = arrays.pop(image_key)
    if x.ndim == 4 and x.shape[3] == 1:
        x = x[..., 0]
    if x.dtype != np.uint8 or not (x.ndim == 3 or (x.ndim == 4 and x.shape[3] == 3)) or x.size == 0:
        raise LayoutError(f"{file!r}: images must be uint8 [n, h, w, 3], got {x.dtype} {list(x.shape)}")
    labels_of, names = _array_labels(file, arrays, label_key)
    labels = labels_of.get(label_key)
    if labels is not None and len(labels) != len(x):
        raise LayoutError(f"{file!r}: {label_key!r} has {len(labels)} labels for {len(x)} images")
    return ImageList(as_samples(list(x)), labels, () if labels is None else names)


def _read_arrays(file: str, image_key: str) -> dict[str, np.ndarray]:
    """The images, all labels and the class names in a file."""
    try:
        with Path(file).open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                loaded = {"x": loaded}
            if image_key not in loaded:
                raise LayoutError(f"{file!r}: no array {image_key!r}; it holds {', '.join(loaded) or 'none'}")
            wanted = [image_key, "classes", *(f"y{key[1:]}" for key in loaded if key == "x" or key.startswith("x_"))]
            return {key: loaded[key] for key in wanted if key in loaded}
    except LayoutError:
        raise
    except Exception as error:  # numpy and zipfile raise many kinds of exceptions for damaged files
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise LayoutError(f"{file!r}: cannot be read: {reason}") from None


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
            raise LayoutError(
                f"{file!r}: {key!r} must be whole numbers [n] in [0, {MAX_CLASSES}), got {y.dtype} {list(y.shape)}"
            )
    count = max((int(y.max()) + 1 for y in labels.values() if y.size), default=0)
    if given is None:
        return labels, tuple(map(str, range(count)))
    if given.ndim != 1 or given.dtype.kind != "U" or len(set(given.tolist())) != len(given) or len(given) < count:
        raise LayoutError(f"{file!r}: 'classes' must have {count} or more different texts, one for each class")
    return labels, tuple(given.tolist())


def _list_folder(root: str, split: str) -> ImageList:
    folder = str(Path(root) / split) if split else root
    try:
        files = find_images(folder)
    except LayoutError:
        raise LayoutError(f"{folder!r}: is not an .npz file, an .npy file, or a readable directory") from None
    if not files:
        raise LayoutError(f"{folder!r}: holds no images")
    loose = [name for name in files if "/" not in name]
    if loose and len(loose) < len(files):
        raise LayoutError(f"{folder!r}: holds class folders and also images ({loose[0]!r}); move one of them")
    labels = (None, ()) if loose else indexed([composed(name.split("/", 1)[0]) for name in files])
    return ImageList(list(map(Sample.of, files.values())), *labels)


def _list_tfds(source: str, split: str) -> ImageList:
    root, _, feature = source.partition("#")
    builder = prepared_set(root)
    features, label = builder.info.features, feature or "label"
    names = class_names(features, label)
    if feature and not names:
        known = sorted(key for key in features if class_names(features, key))
        raise LayoutError(f"{source}: no such classes; it has {', '.join(known) or 'none'}")
    images, labels = read_split(builder, split, label if names else "")
    return ImageList(images, np.array(labels, np.int32) if names else None, names)
