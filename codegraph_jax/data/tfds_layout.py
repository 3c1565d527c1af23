"""Data sets of tensorflow-datasets: each split is a category, and images are read when they are needed."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from codegraph_jax.data.catalog import how_to_prepare, one_line
from codegraph_jax.data.image_set import CatalogError
from codegraph_jax.data.samples import Categories, Sample
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
    builder = _builder(root)
    features = builder.info.features
    if not hasattr(features, "keys") or "image" not in features:
        raise LayoutError(
            f"data.root: {root!r} holds no feature `image`; it holds {', '.join(features or ()) or 'none'}"
        )
    # a FeaturesDict has no get()
    label = features["label"] if "label" in features else None  # noqa: SIM401
    classes = tuple(getattr(label, "names", None) or ())
    if unknown := [name for name in good if name not in classes]:
        held = ", ".join(map(repr, classes[:40])) or "none"
        raise LayoutError(f"data.good: no class {', '.join(map(repr, unknown))} in {root!r} (it holds {held})")
    return {split: partial(_samples, builder, split, classes, frozenset(good)) for split in builder.info.splits}


def _builder(root: str) -> Any:
    import tensorflow_datasets as tfds  # noqa: PLC0415  takes seconds, and only this layout needs it

    name = root.removeprefix(PREFIX)
    try:
        if root.startswith(PREFIX):
            builder = tfds.builder(name)
            if not builder.info.splits:
                raise CatalogError("is not prepared")
            return builder
        if not (Path(root) / "dataset_info.json").is_file():
            raise LayoutError(
                f"data.root: {root!r} is neither tfds:NAME nor the directory of a prepared set (a version, with "
                "dataset_info.json)"
            )
        return tfds.builder_from_directory(root)
    except LayoutError:
        raise
    except Exception as error:  # each problem (name, not prepared, damaged info) has its own exception
        raise LayoutError(f"data.root: {root}: {one_line(error)}. {how_to_prepare(name)}") from None


def _samples(builder: Any, split: str, classes: tuple[str, ...], good: frozenset[str]) -> list[Sample]:
    import tensorflow_datasets as tfds  # noqa: PLC0415  see above

    try:
        images = builder.as_data_source(split)
        kinds: list[str | None] = [None] * len(images)
        if classes:
            # only labels are read here, so images are not decoded
            records = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
            kinds = [classes[int(records[i]["label"])] for i in range(len(records))]
    except Exception as error:  # each problem (file format, missing or damaged shards) has its own exception
        name = builder.info.name
        raise LayoutError(
            f"data.root: tfds:{name}, split {split!r}: {one_line(error)}. {how_to_prepare(name)}"
        ) from None
    return [
        Sample(
            path=f"{PREFIX}{builder.info.name}/{split}/{i:06d}",
            name=f"{i:06d}",
            category=split,
            label=int(kind not in good) if good and kind is not None else None,
            defect=kind,
            read=_reader(images, i),
        )
        for i, kind in enumerate(kinds)
    ]


def _reader(images: Any, index: int) -> Callable[[], np.ndarray]:
    return lambda: np.asarray(images[index]["image"])
