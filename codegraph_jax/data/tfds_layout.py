"""Data sets of tensorflow-datasets: each split is a category, and images are read when they are needed."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from codegraph_jax.data.samples import Categories, Sample, label_by_type
from codegraph_jax.data.search import LayoutError

PREFIX = "tfds:"


def read_tfds(root: str, good: Sequence[str] = ()) -> Categories:
    """The splits of a prepared set of tensorflow-datasets: `tfds:NAME`, or a directory with dataset_info.json.

    TensorFlow is not needed if the set was prepared as array_record or parquet. A name is looked up below
    `TFDS_DATA_DIR` or ~/tensorflow_datasets; a directory is that of one version. Images are named
    `tfds:NAME/SPLIT/000123` by their index in the split. `good` are the classes of good parts, the others being
    defective; without it there are no labels.

    Raises:
        LayoutError: the set does not exist, has no images or another file format, or lacks a class of `good`.
    """
    builder = prepared_set(root)
    classes = class_names(builder.info.features, "label")
    if unknown := [name for name in good if name not in classes]:
        held = ", ".join(map(repr, classes[:40])) or "none"
        raise LayoutError(f"config.data.good: no class {', '.join(map(repr, unknown))} in {root!r} (it holds {held})")
    return {split: partial(_samples, builder, split, classes, frozenset(good)) for split in builder.info.splits}


def prepared_set(root: str) -> Any:
    """The builder of a set of images, which is `tfds:NAME` or a directory with dataset_info.json.

    Raises:
        LayoutError: the set does not exist, is not prepared, or has no images.
    """
    import tensorflow_datasets as tfds  # noqa: PLC0415  takes seconds, and only these sets need it

    named = root.startswith(PREFIX)
    if not named and not (Path(root) / "dataset_info.json").is_file():
        raise LayoutError(
            f"config.data.root: {root!r} is neither tfds:NAME nor the directory of a prepared set (a version, with "
            "dataset_info.json)"
        )
    name = root.removeprefix(PREFIX)
    try:
        builder = tfds.builder(name) if named else tfds.builder_from_directory(root)
        features, prepared = builder.info.features, bool(builder.info.splits)
    except Exception as error:  # each problem (unknown name, damaged info) has its own exception
        raise LayoutError(f"{root}: {_one_line(error)}. {_how_to_prepare(name)}") from None
    if not prepared:
        raise LayoutError(f"{root}: is not prepared. {_how_to_prepare(name)}")
    if not hasattr(features, "keys") or "image" not in features:
        raise LayoutError(f"{root}: holds no feature `image`; it holds {', '.join(features or ()) or 'none'}")
    return builder


def class_names(features: Any, name: str) -> tuple[str, ...]:
    """The class names of a feature; empty if the set lacks the feature, or the feature has no classes."""
    return tuple(getattr(features[name], "names", None) or ()) if name in features else ()


def read_split(builder: Any, split: str, label: str) -> tuple[list[Sample], list[int]]:
    """The images of a split, and the class number of each by the feature `label`; "": no numbers.

    Raises:
        LayoutError: the split does not exist, or its files are missing or damaged.
    """
    import tensorflow_datasets as tfds  # noqa: PLC0415  see above

    source, labels = f"{PREFIX}{builder.info.name}", []
    try:
        images = builder.as_data_source(split)
        if label:
            # only labels are read here, so images are not decoded
            records = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
            labels = [int(records[i][label]) for i in range(len(records))]
    except Exception as error:  # each problem (file format, missing or damaged shards) has its own exception
        reason = f"{_one_line(error)}. {_how_to_prepare(builder.info.name)}"
        raise LayoutError(f"{source}, split {split!r}: {reason}") from None
    paths = [f"{source}/{split}/{i:06d}" for i in range(len(images))]
    return [Sample(path, f"{i:06d}", read=partial(_pixels, images, i)) for i, path in enumerate(paths)], labels


def _samples(builder: Any, split: str, classes: tuple[str, ...], good: frozenset[str]) -> list[Sample]:
    images, labels = read_split(builder, split, "label" if classes else "")
    types: list[str | None] = [classes[label] for label in labels] if classes else [None] * len(images)
    return [
        replace(image, category=split, photo_type=name, label=label_by_type(name, good))
        for image, name in zip(images, types)
    ]


def _pixels(images: Any, index: int) -> np.ndarray:
    return np.asarray(images[index]["image"])


def _one_line(error: Exception) -> str:
    """The beginning of an error's message on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _how_to_prepare(name: str) -> str:
    """Advice if a set of tensorflow-datasets cannot be read."""
    return (
        "A set is prepared once, which may need TensorFlow (the extra `tfds`): "
        f"python -c \"import tensorflow_datasets as tfds; tfds.builder({name!r}, file_format='array_record')"
        '.download_and_prepare()"'
    )
