"""The evaluation protocols, which define the normal images, and the order of images in training (host code)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, UInt8

from codegraph_jax.core.errors import UserError
from codegraph_jax.core.names import composed

IN_DISTRIBUTION = "in distribution"
"""Class name of the normal images if the network is trained on all classes."""

Images = UInt8[np.ndarray, "n h w 3"]


class ProtocolError(UserError):
    """The data do not fit the protocol of the config."""


@dataclass(frozen=True)
class TestSet:
    """Test images with their ground truth.

    Attributes:
        images: [n, h, w, 3].
        normal: [n], True where an image is normal.
        labels: [n], class numbers.
        class_names: name of each class number.
    """

    images: Images
    normal: Bool[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]
    class_names: tuple[str, ...]

    __test__ = False  # pytest would collect it by its name


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


def target_in_test(target: str, trained: tuple[str, ...], tested: tuple[str, ...]) -> str:
    """The class `target` of the training set, as a name or number for the test set.

    Sets may order their classes differently, so a number is used only if one of the sets has no class names.

    Raises:
        ProtocolError: there is no such class.
    """
    number = find_class(target, trained)
    nameless = [all(name.isdecimal() for name in names) for names in (trained, tested)]
    return str(number) if any(nameless) else trained[number]


def rows_of_classes(
    wanted: tuple[str, ...],
    count: int,
    labels: Int[np.ndarray, " n"] | None,
    class_names: tuple[str, ...],
    field: str,
) -> Bool[np.ndarray, " n"]:
    """True for the rows of the wanted classes; for all rows if no class is given.

    Raises:
        ProtocolError: the set has no labels, or a class is missing.
    """
    if not wanted:
        return np.ones(count, bool)
    if labels is None:
        raise ProtocolError(f"{field}: the source has no class labels; leave this setting empty")
    return np.isin(labels, [find_class(name, class_names, field) for name in wanted])


def drawn_classes(
    count: int, labels: Int[np.ndarray, " n"] | None, kept: Bool[np.ndarray, " n"], seed: int
) -> Bool[np.ndarray, " n"]:
    """True for the rows of `count` classes, drawn by the seed from the classes of the `kept` rows.

    With the same seed, a greater count adds classes to those of a smaller one.

    Raises:
        ProtocolError: the set has no labels, or too few classes.
    """
    if labels is None:
        raise ProtocolError("config.oe.class_count: config.oe.source has no class labels; leave this setting out")
    present = np.unique(labels[kept])
    if count > len(present):
        raise ProtocolError(f"config.oe.class_count: asks for {count} classes of OE images, there are {len(present)}")
    return np.isin(labels, np.random.default_rng([seed, 5]).permutation(present)[:count])


def normal_rows(protocol: str, labels: Int[np.ndarray, " n"], target: int) -> Bool[np.ndarray, " n"]:
    """True for the rows that are normal under the protocol (`leave_one_class_out`: every class but `target`)."""
    return labels != target if protocol == "leave_one_class_out" else labels == target


def training_rows(
    protocol: str, count: int, labels: Int[np.ndarray, " n"] | None, target: str, class_names: tuple[str, ...]
) -> Bool[np.ndarray, " n"]:
    """True for the normal training images; labels are used only to select these.

    Raises:
        ProtocolError: the set has no labels, the class is unknown, or no image is normal.
    """
    if protocol in ("unlabelled", "multimodal"):
        return np.ones(count, bool)
    if labels is None:
        raise ProtocolError(f"config.data.protocol: {protocol} needs class labels, and config.data.train has none")
    chosen = normal_rows(protocol, labels, find_class(target, class_names))
    if not chosen.any():
        raise ProtocolError(f"config.data.target: no training image is normal under {protocol} of class {target!r}")
    return chosen


def test_set(
    protocol: str, images: Images, labels: Int[np.ndarray, " n"] | None, target: str, class_names: tuple[str, ...]
) -> TestSet:
    """The test images with their ground truth.

    Raises:
        ProtocolError: there are no labels, the class is unknown, or one side is empty.
    """
    if labels is None:
        raise ProtocolError("config.data.test: the test images have no class labels; give a labelled set, or none")
    normal = normal_rows(protocol, labels, find_class(target, class_names))
    for side, count in (("normal", int(normal.sum())), ("anomalous", int((~normal).sum()))):
        if not count:
            raise ProtocolError(f"config.data.test: no {side} image under {protocol} of class {target!r}")
    return TestSet(images, normal, labels, class_names)


test_set.__test__ = False  # type: ignore[attr-defined]


def ood_test_set(images: Images, others: dict[str, Images]) -> TestSet:
    """A test set of in-distribution images and named out-of-distribution sets, each of which is a class.

    Raises:
        ProtocolError: a set is empty.
    """
    for name, unseen in others.items():
        if not len(unseen):
            raise ProtocolError(f"config.evaluation.ood: {name} holds no images")
    labels = np.repeat(np.arange(1 + len(others)), [len(images), *map(len, others.values())])
    return TestSet(np.concatenate([images, *others.values()]), labels == 0, labels, (IN_DISTRIBUTION, *others))


def balanced_subset(data: TestSet, count: int, seed: int) -> TestSet:
    """A random subset of at most `count` images, half of them normal."""
    rng = np.random.default_rng([seed, 1])
    rows = []
    for side, wanted in ((data.normal, count // 2), (~data.normal, count - count // 2)):
        candidates = np.flatnonzero(side)
        rows.append(np.sort(rng.permutation(candidates)[:wanted]))
    chosen = np.concatenate(rows)
    return TestSet(data.images[chosen], data.normal[chosen], data.labels[chosen], data.class_names)


def choose_oe_rows(count: int, wanted: int | None, seed: int) -> Int[np.ndarray, " k"]:
    """Rows of `wanted` OE images (None: all), which depend on the seed only.

    Raises:
        ProtocolError: there are fewer images.
    """
    if wanted and wanted > count:
        raise ProtocolError(f"config.oe.image_count: asks for {wanted} OE images, there are {count}")
    return np.sort(np.random.default_rng([seed, 2]).permutation(count)[: wanted or count])


def epoch_order(count: int, steps: int, batch: int, seed: int, epoch: int) -> Int[np.ndarray, "s b"]:
    """Rows of the normal images for each step of an epoch: a permutation without its incomplete last batch."""
    return np.random.default_rng([seed, 3, epoch]).permutation(count)[: steps * batch].reshape(steps, batch)


def exposure_order(count: int, steps: int, batch: int, seed: int, epoch: int, resample: str) -> Int[np.ndarray, "s b"]:
    """Rows of the OE images for each step of an epoch.

    They are drawn without repetition if the set is large enough, else uniformly with replacement (few-shot OE). `fixed`
    repeats the draw of the first epoch, `fresh` draws in each epoch.
    """
    rng = np.random.default_rng([seed, 4, 0 if resample == "fixed" else epoch])
    wanted = steps * batch
    if count >= wanted:
        return rng.permutation(count)[:wanted].reshape(steps, batch)
    return rng.integers(0, count, (steps, batch))
