"""The evaluation protocols: which images are normal, and which are used."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Bool, Int

from codegraph_jax.core.errors import UserError
from codegraph_jax.core.names import composed
from contrastive_jax.data.image_set import ImageList, Images, ImageSet

IN_DISTRIBUTION = "in distribution"
"""Class name of the normal images if the network is trained on all classes."""


class Stream(IntEnum):
    """Purpose of a draw; its number is a part of the seed, so that draws for different purposes are independent."""

    TEST_SUBSET = 1
    OE_ROWS = 2
    EPOCH_ORDER = 3
    OE_ORDER = 4
    OE_CLASSES = 5

    def generator(self, seed: int, epoch: int | None = None) -> np.random.Generator:
        """The generator of a run's seed, and of an epoch if each epoch draws anew."""
        return np.random.default_rng([seed, self] if epoch is None else [seed, self, epoch])


class ProtocolError(UserError):
    """The data do not fit the protocol of the config."""


@dataclass(frozen=True)
class EvaluationSet:
    """Test images with their ground truth.

    Attributes:
        images: [n, h, w, 3].
        is_normal: [n], True where an image is normal.
        labels: [n], class numbers.
        class_names: name of each class number.
    """

    images: Images
    is_normal: Bool[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]
    class_names: tuple[str, ...]


def find_class(target: str, class_names: tuple[str, ...], field: str = "config.data.target") -> int:
    """The number of the class `target`: an exact name, else a number, else a name that differs in case only.

    Raises:
        ProtocolError: there is no such class.
    """
    target, class_names = composed(target), tuple(map(composed, class_names))
    if target in class_names:
        return class_names.index(target)
    if target.isdecimal() and int(target) < len(class_names):
        return int(target)
    matches = [i for i, name in enumerate(class_names) if name.casefold() == target.casefold()]
    if len(matches) == 1:
        return matches[0]
    raise ProtocolError(f"{field}: there is no class {target!r}; classes: {', '.join(class_names)}")


def target_in_test(target: str, train_classes: tuple[str, ...], test_classes: tuple[str, ...]) -> str:
    """The class `target` of the training set, as a name or number for the test set.

    Sets may order their classes differently, so a number is used only if one of the sets has no class names.

    Raises:
        ProtocolError: there is no such class.
    """
    number = find_class(target, train_classes)
    nameless = [all(name.isdecimal() for name in names) for names in (train_classes, test_classes)]
    return str(number) if any(nameless) else train_classes[number]


def class_mask(listed: ImageList, wanted: tuple[str, ...], field: str) -> Bool[np.ndarray, " n"]:
    """True for the images of the wanted classes; for all images if no class is given.

    Raises:
        ProtocolError: the set has no labels, or a class is missing.
    """
    if not wanted:
        return np.ones(len(listed.samples), bool)
    if listed.labels is None:
        raise ProtocolError(f"{field}: the source has no class labels; leave this setting empty")
    return np.isin(listed.labels, [find_class(name, listed.class_names, field) for name in wanted])


def drawn_class_mask(
    listed: ImageList, class_count: int, kept: Bool[np.ndarray, " n"], seed: int
) -> Bool[np.ndarray, " n"]:
    """True for the images of `class_count` classes, drawn by the seed from the classes of the `kept` images.

    With the same seed, a greater number adds classes to those of a smaller one.

    Raises:
        ProtocolError: the set has no labels, or too few classes.
    """
    if listed.labels is None:
        raise ProtocolError("config.oe.class_count: config.oe.source has no class labels; leave this setting out")
    present = np.unique(listed.labels[kept])
    if class_count > len(present):
        raise ProtocolError(
            f"config.oe.class_count: asks for {class_count} classes of OE images, there are {len(present)}"
        )
    return np.isin(listed.labels, Stream.OE_CLASSES.generator(seed).permutation(present)[:class_count])


def normal_mask(protocol: str, labels: Int[np.ndarray, " n"], target: int) -> Bool[np.ndarray, " n"]:
    """True for the images that are normal under the protocol (`leave_one_class_out`: every class but `target`)."""
    return labels != target if protocol == "leave_one_class_out" else labels == target


def training_mask(listed: ImageList, protocol: str, target: str) -> Bool[np.ndarray, " n"]:
    """True for the normal training images; labels are used only to select these.

    Raises:
        ProtocolError: the set has no labels, the class is unknown, or no image is normal.
    """
    if protocol in ("unlabelled", "multimodal"):
        return np.ones(len(listed.samples), bool)
    if listed.labels is None:
        raise ProtocolError(f"config.data.protocol: {protocol} needs class labels, and config.data.train has none")
    normal = normal_mask(protocol, listed.labels, find_class(target, listed.class_names))
    if not normal.any():
        raise ProtocolError(f"config.data.target: no training image is normal under {protocol} of class {target!r}")
    return normal


def evaluation_set(source: ImageSet, protocol: str, target: str) -> EvaluationSet:
    """The test images with their ground truth.

    Raises:
        ProtocolError: there are no labels, the class is unknown, or one side is empty.
    """
    if source.labels is None:
        raise ProtocolError("config.data.test: the test images have no class labels; give a labelled set, or none")
    normal = normal_mask(protocol, source.labels, find_class(target, source.class_names))
    for side, count in (("normal", int(normal.sum())), ("anomalous", int((~normal).sum()))):
        if not count:
            raise ProtocolError(f"config.data.test: no {side} image under {protocol} of class {target!r}")
    return EvaluationSet(source.images, normal, source.labels, source.class_names)


def ood_evaluation_set(images: Images, ood: dict[str, Images]) -> EvaluationSet:
    """A test set of in-distribution images and named out-of-distribution sets, each of which is a class.

    Raises:
        ProtocolError: a set is empty.
    """
    for name, found in ood.items():
        if not len(found):
            raise ProtocolError(f"config.evaluation.ood: {name} holds no images")
    labels = np.repeat(np.arange(1 + len(ood)), [len(images), *map(len, ood.values())])
    return EvaluationSet(np.concatenate([images, *ood.values()]), labels == 0, labels, (IN_DISTRIBUTION, *ood))


def balanced_subset(test: EvaluationSet, wanted: int, seed: int) -> EvaluationSet:
    """A random subset of at most `wanted` images, half of them normal."""
    rng = Stream.TEST_SUBSET.generator(seed)
    parts = []
    for side, share in ((test.is_normal, wanted // 2), (~test.is_normal, wanted - wanted // 2)):
        parts.append(np.sort(rng.permutation(np.flatnonzero(side))[:share]))
    rows = np.concatenate(parts)
    return EvaluationSet(test.images[rows], test.is_normal[rows], test.labels[rows], test.class_names)


def draw_oe_rows(image_count: int, wanted: int | None, seed: int) -> Int[np.ndarray, " k"]:
    """Rows of `wanted` OE images (None: all) out of `image_count`, which depend on the seed only.

    Raises:
        ProtocolError: there are fewer images.
    """
    if wanted and wanted > image_count:
        raise ProtocolError(f"config.oe.image_count: asks for {wanted} OE images, there are {image_count}")
    return np.sort(Stream.OE_ROWS.generator(seed).permutation(image_count)[: wanted or image_count])
