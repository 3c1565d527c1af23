"""Reading the image sets of a run, and what is refused before a step is taken (host code)."""

import hashlib
import logging
from dataclasses import dataclass

import numpy as np

from codegraph_jax.data.catalog import ImageSet, load_image_set
from contrastive_jax.config import OeclConfig
from contrastive_jax.data.patterns import draw_patterns
from contrastive_jax.data.protocols import (
    Images,
    ProtocolError,
    TestSet,
    balanced_subset,
    few_shot,
    test_set,
    training_images,
)
from contrastive_jax.objectives import OBJECTIVES

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunData:
    """The images of a run.

    Attributes:
        normal: normal training images.
        oe: OE images, or None in the modes that use none.
        test: test images with their ground truth, or None.
    """

    normal: Images
    oe: Images | None
    test: TestSet | None


def read_source(source: str, split: str, size: int) -> ImageSet:
    """An image set at `size` x `size` pixels; `patterns` is drawn, everything else comes from the shared catalogue."""
    if source == "patterns":
        return draw_patterns(split, size)
    return load_image_set(source, split, size)


def read_run_data(config: OeclConfig) -> RunData:
    """Reads and checks everything that a run trains and tests on.

    Raises:
        CatalogError: a source cannot be read.
        ProtocolError: the data cannot serve the protocol, or the OE images are the normal images.
    """
    data = config.data
    train = read_source(data.train, data.train_split, data.stored_size)
    normal = training_images(data.protocol, train.images, train.labels, data.target, train.class_names)
    if len(normal) < config.train.batch_size:
        raise ProtocolError(
            f"config.train.batch_size: {config.train.batch_size} is more than the {len(normal)} normal training images"
        )
    test = None
    if data.test != "none":
        source = read_source(data.test or data.train, data.test_split, data.stored_size)
        test = test_set(data.protocol, source.images, source.labels, data.target, source.class_names)
        if config.evaluation.images:
            test = balanced_subset(test, config.evaluation.images, config.seed)
    oe = None
    if OBJECTIVES[config.train.mode].needs_oe:
        exposed = read_source(config.oe.source, config.oe.split, data.stored_size).images
        oe = few_shot(exposed, config.oe.few_shot, config.seed)
        check_overlap(oe, normal, test)
    return RunData(normal, oe, test)


def check_overlap(oe: Images, normal: Images, test: TestSet | None) -> None:
    """Warns of OE images that are also normal training images or anomalous test images.

    Raises:
        ProtocolError: every OE image is a normal training image.
    """
    keys = [_digest(image) for image in oe]
    trained = {_digest(image) for image in normal}
    shared = sum(key in trained for key in keys)
    if shared == len(keys):
        raise ProtocolError("config.oe.source: every OE image is also a normal training image; choose another source")
    if shared:
        logger.warning("%d of %d OE images are also normal training images (config.oe.source)", shared, len(keys))
    if test is not None:
        tested = {_digest(image) for image in test.images[~test.normal]}
        leaked = sum(key in tested for key in keys)
        if leaked:
            logger.warning("%d of %d OE images are also anomalous test images: the AUROC flatters", leaked, len(keys))


def _digest(image: np.ndarray) -> bytes:
    """Stands for an image of whole sets, whose bytes would take the sets' memory a second time."""
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()


def describe(data: RunData) -> dict[str, int]:
    """Numbers of images, for the manifest."""
    counts = {"normal": len(data.normal), "oe": 0 if data.oe is None else len(data.oe)}
    if data.test is not None:
        counts["test_normal"] = int(np.sum(data.test.normal))
        counts["test_anomalous"] = int(np.sum(~data.test.normal))
    return counts
