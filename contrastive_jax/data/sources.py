"""Reads and checks the image sets of a run."""

import logging
from dataclasses import dataclass

import numpy as np

from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.batches import image_key
from codegraph_jax.data.value_range import ValueRange, given_range
from contrastive_jax.config import OeclConfig, ood_entry
from contrastive_jax.data.catalog import list_image_set, load_image_set
from contrastive_jax.data.image_set import ImageList, Images, decode
from contrastive_jax.data.protocols import (
    EvaluationSet,
    ProtocolError,
    balanced_subset,
    class_mask,
    draw_oe_rows,
    drawn_class_mask,
    evaluation_set,
    ood_evaluation_set,
    target_in_test,
    training_mask,
)
from contrastive_jax.objectives import OBJECTIVES

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunData:
    """The images of a run.

    Attributes:
        normal: normal training images.
        oe: OE images, or None for the objectives that use none.
        test: test images with their ground truth, or None.
        value_range: conversion of samples of the normal images that do not have 8 bits; None: all have 8 bits.
    """

    normal: Images
    oe: Images | None
    test: EvaluationSet | None
    value_range: ValueRange | None = None


def read_run_data(config: OeclConfig) -> RunData:
    """Reads and checks the training, OE and test images of a run; unused images are not decoded.

    Raises:
        ConfigError: the settings name no source.
        LayoutError: a source cannot be read.
        ProtocolError: the data do not fit the protocol, or all OE images are normal images.
    """
    data, size = config.data, config.data.stored_size
    needs_oe = OBJECTIVES[config.train.objective].needs_oe
    if not data.train:
        raise ConfigError("config.data.train: is empty; name the folder of the normal images, or another source")
    if needs_oe and not config.oe.source:
        raise ConfigError(
            f"config.oe.source: is empty; name a folder of other images, which {config.train.objective} needs"
        )

    listed = list_image_set(data.train, data.train_split, size, data.min_box_side)
    normal = class_mask(listed, data.classes, "config.data.classes")
    normal &= training_mask(listed, data.protocol, data.target)
    value_range = given_range(data.range, data.no_data)
    train = decode(listed, size, np.flatnonzero(normal), value_range, data.no_data)
    if len(train.images) < config.train.batch_size:
        raise ProtocolError(
            f"config.train.batch_size: {config.train.batch_size} is more than the {len(train.images)} normal training "
            "images"
        )
    test = None if data.test == "none" else _read_test(config, train.class_names, train.value_range)
    oe = None
    if needs_oe:
        listed = list_image_set(config.oe.source, config.oe.split, size)
        oe = decode(listed, size, _oe_rows(config, listed)).images
        check_overlap(oe, train.images, test)
    return RunData(train.images, oe, test, train.value_range)


def _read_test(config: OeclConfig, train_classes: tuple[str, ...], value_range: ValueRange | None) -> EvaluationSet:
    """The test images, with the value range of the training set; `train_classes` are its classes."""
    data, size = config.data, config.data.stored_size
    listed = list_image_set(data.train if data.test == "same" else data.test, data.test_split, size, data.min_box_side)
    wanted = np.flatnonzero(class_mask(listed, data.classes, "config.data.classes"))
    source = decode(listed, size, wanted, value_range)
    if data.protocol == "multimodal":
        ood = {}
        for entry in config.evaluation.ood:
            name, split, path = ood_entry(entry)
            ood[name] = load_image_set(path, split, size, value_range=value_range).images
        test = ood_evaluation_set(source.images, ood)
    else:
        target = data.target
        if data.protocol != "unlabelled":
            target = target_in_test(target, train_classes, source.class_names)
        test = evaluation_set(source, data.protocol, target)
    if config.evaluation.image_count:
        test = balanced_subset(test, config.evaluation.image_count, config.seed)
    return test


def _oe_rows(config: OeclConfig, listed: ImageList) -> np.ndarray:
    """Rows of the OE images that are used."""
    oe = config.oe
    kept = class_mask(listed, oe.classes, "config.oe.classes")
    if oe.exclude:
        kept &= ~class_mask(listed, oe.exclude, "config.oe.exclude")
    if oe.class_count:
        kept &= drawn_class_mask(listed, oe.class_count, kept, config.seed)
    rows = np.flatnonzero(kept)
    return rows[draw_oe_rows(len(rows), oe.image_count, config.seed)]


def check_overlap(oe: Images, normal: Images, test: EvaluationSet | None) -> None:
    """Warns of OE images that are also normal training images or anomalous test images.

    Raises:
        ProtocolError: every OE image is a normal training image.
    """
    # digests, since the bytes of whole sets would take their memory a second time
    keys = [image_key(image) for image in oe]
    trained = {image_key(image) for image in normal}
    shared = sum(key in trained for key in keys)
    if shared == len(keys):
        raise ProtocolError("config.oe.source: every OE image is also a normal training image; choose another source")
    if shared:
        logger.warning("%d of %d OE images are also normal training images (config.oe.source)", shared, len(keys))
    if test is not None:
        tested = {image_key(image) for image in test.images[~test.is_normal]}
        leaked = sum(key in tested for key in keys)
        if leaked:
            logger.warning(
                "%d of %d OE images are also anomalous test images: the AUROC is too high", leaked, len(keys)
            )


def image_counts(data: RunData) -> dict[str, int]:
    """Numbers of images for the manifest."""
    counts = {"normal": len(data.normal), "oe": 0 if data.oe is None else len(data.oe)}
    if data.test is not None:
        counts["test_normal"] = int(np.sum(data.test.is_normal))
        counts["test_anomalous"] = int(np.sum(~data.test.is_normal))
    return counts
