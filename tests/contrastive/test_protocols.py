"""The choice of normal images, and the order in which they are drawn."""

import dataclasses
import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegraph_jax.core.settings import ConfigError, read_config
from contrastive_jax.config import ExposureConfig, OeclConfig, OeclDataConfig, TrainConfig
from contrastive_jax.data import protocols
from contrastive_jax.data.feeding import epoch_order, oe_order
from contrastive_jax.data.image_set import ImageList, ImageSet
from contrastive_jax.data.patterns import SHAPES, TEXTURES, draw_patterns
from contrastive_jax.data.protocols import ProtocolError
from contrastive_jax.data.sources import check_overlap, read_run_data

IMAGES = np.arange(6 * 4 * 4 * 3, dtype=np.uint8).reshape(6, 4, 4, 3)
LABELS = np.array([0, 1, 2, 0, 1, 2], np.int32)
NAMES = ("cat", "dog", "7")
LISTED, UNLABELLED = ImageList(list(IMAGES), LABELS, NAMES), ImageList(list(IMAGES), None, ())
DECODED = ImageSet(IMAGES, LABELS, NAMES)


def test_one_vs_rest_and_leave_one_class_out():
    one = protocols.training_mask(LISTED, "one_vs_rest", "dog")
    assert one.tolist() == [False, True, False] * 2
    rest = protocols.training_mask(LISTED, "leave_one_class_out", "1")
    assert rest.tolist() == [True, False, True] * 2
    assert protocols.evaluation_set(DECODED, "one_vs_rest", "dog").is_normal.tolist() == one.tolist()
    assert protocols.evaluation_set(DECODED, "leave_one_class_out", "dog").is_normal.tolist() == rest.tolist()
    for protocol in ("unlabelled", "multimodal"):
        assert protocols.training_mask(UNLABELLED, protocol, "cat").all()


def test_a_class_name_goes_before_its_number():
    assert protocols.find_class("7", NAMES) == 2
    assert protocols.find_class("0", NAMES) == 0
    assert protocols.find_class("Dog", NAMES) == 1
    assert protocols.find_class("NV", ("NV", "nv")) == 0


def test_a_number_means_the_class_of_the_training_set():
    """Classes of sets that list them in another order, or lack one, are matched by name."""
    trained, tested = ("akiec", "mel", "nv"), ("MEL", "NV")
    found = protocols.target_in_test("1", trained, tested)
    assert protocols.find_class(found, tested) == 0
    with pytest.raises(ProtocolError, match="no class 'akiec'; classes: MEL, NV"):
        protocols.find_class(protocols.target_in_test("0", trained, tested), tested)
    assert protocols.target_in_test("nv", trained, ("0", "1", "2")) == "2"
    assert protocols.target_in_test("1", ("0", "1"), ("cat", "dog")) == "1"


def test_classes_are_chosen_by_name():
    chosen = protocols.class_mask(LISTED, ("DOG", "7"), "config.data.classes")
    assert chosen.tolist() == [False, True, True] * 2
    assert protocols.class_mask(UNLABELLED, (), "config.data.classes").all()
    with pytest.raises(ProtocolError, match="config.data.classes: there is no class 'bird'"):
        protocols.class_mask(LISTED, ("bird",), "config.data.classes")
    with pytest.raises(ProtocolError, match="config.oe.exclude: the source has no class labels"):
        protocols.class_mask(UNLABELLED, ("dog",), "config.oe.exclude")


def test_more_classes_hold_those_of_fewer():
    labels = np.repeat(np.arange(10), 3).astype(np.int32)
    listed, everything = ImageList([""] * 30, labels, tuple("abcdefghij")), np.ones(30, bool)
    few, more = (protocols.drawn_class_mask(listed, count, everything, seed=0) for count in (2, 5))
    assert few.sum() == 6 and more.sum() == 15 and (more | ~few).all()
    assert not protocols.drawn_class_mask(listed, 2, labels > 4, seed=0)[:15].any()
    with pytest.raises(ProtocolError, match="class_count: asks for 6 classes of OE images, there are 5"):
        protocols.drawn_class_mask(listed, 6, labels > 4, seed=0)
    with pytest.raises(ProtocolError, match="class_count: config.oe.source has no class labels"):
        protocols.drawn_class_mask(UNLABELLED, 1, np.ones(6, bool), seed=0)


def test_sets_that_are_out_of_distribution_are_classes_of_the_test():
    data = protocols.ood_evaluation_set(IMAGES, {"svhn": IMAGES[:2], "textures": IMAGES[:3]})
    assert data.class_names == ("in distribution", "svhn", "textures")
    assert data.labels.tolist() == [0] * 6 + [1] * 2 + [2] * 3
    assert data.is_normal.sum() == 6 and len(data.images) == 11
    with pytest.raises(ProtocolError, match="config.evaluation.ood: svhn holds no images"):
        protocols.ood_evaluation_set(IMAGES, {"svhn": IMAGES[:0]})


@pytest.mark.parametrize("target", ["3", "bird", "-1", ""])
def test_an_unknown_class_is_refused(target):
    with pytest.raises(ProtocolError, match="target.*cat, dog, 7"):
        protocols.find_class(target, NAMES)


def test_missing_labels_and_empty_sides_are_refused():
    with pytest.raises(ProtocolError, match="needs class labels"):
        protocols.training_mask(UNLABELLED, "one_vs_rest", "0")
    with pytest.raises(ProtocolError, match="no training image is normal"):
        protocols.training_mask(ImageList(list(IMAGES[:2]), LABELS[:2], NAMES), "one_vs_rest", "7")
    with pytest.raises(ProtocolError, match="no anomalous image"):
        protocols.evaluation_set(ImageSet(IMAGES[:1], LABELS[:1], NAMES), "one_vs_rest", "cat")
    with pytest.raises(ProtocolError, match="no class labels"):
        protocols.evaluation_set(ImageSet(IMAGES, None, ()), "unlabelled", "cat")


def test_balanced_subset_is_balanced_and_repeatable():
    images = ImageSet(np.zeros((100, 1, 1, 3), np.uint8), np.arange(100, dtype=np.int32) % 10, tuple("abcdefghij"))
    data = protocols.evaluation_set(images, "one_vs_rest", "0")
    first, again = (protocols.balanced_subset(data, 16, seed=5) for _ in range(2))
    assert first.is_normal.sum() == 8 and (~first.is_normal).sum() == 8
    np.testing.assert_array_equal(first.labels, again.labels)
    assert protocols.balanced_subset(data, 40, seed=0).is_normal.sum() == 10


@given(st.integers(1, 5), st.integers(1, 8), st.integers(0, 20), st.integers(0, 3), st.integers(0, 3))
def test_epochs_visit_images_once_and_do_not_depend_on_the_past(steps, batch, spare, seed, epoch):
    count = steps * batch + spare
    order = epoch_order(count, steps, batch, seed, epoch)
    assert order.shape == (steps, batch) and len(np.unique(order)) == order.size and order.max() < count
    np.testing.assert_array_equal(order, epoch_order(count, steps, batch, seed, epoch))


def test_exposure_is_fixed_or_fresh_and_repeats_only_if_it_must():
    fixed = [oe_order(100, 3, 4, 0, epoch, "fixed") for epoch in range(2)]
    fresh = [oe_order(100, 3, 4, 0, epoch, "fresh") for epoch in range(2)]
    np.testing.assert_array_equal(*fixed)
    assert (fresh[0] != fresh[1]).any()
    assert len(np.unique(fresh[0])) == 12
    few = oe_order(2, 3, 4, 0, 0, "fresh")
    assert few.shape == (3, 4) and set(np.unique(few)) <= {0, 1}


def test_few_shot_images_are_chosen_repeatably():
    chosen = protocols.draw_oe_rows(6, 2, seed=1)
    np.testing.assert_array_equal(chosen, protocols.draw_oe_rows(6, 2, seed=1))
    assert len(chosen) == 2 and protocols.draw_oe_rows(6, None, 0).tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ProtocolError, match="oe.image_count.*7 OE images, there are 6"):
        protocols.draw_oe_rows(6, 7, 0)


def test_overlap_warns_and_equality_is_refused(caplog):
    with pytest.raises(ProtocolError, match="every OE image is also a normal"):
        check_overlap(IMAGES[:3], IMAGES, None)
    with caplog.at_level(logging.WARNING):
        check_overlap(np.concatenate([IMAGES[:2], IMAGES[:1] + 1]), IMAGES[:4], None)
    assert "2 of 3 OE images are also normal training images" in caplog.text
    data = protocols.evaluation_set(DECODED, "one_vs_rest", "cat")
    with caplog.at_level(logging.WARNING):
        check_overlap(IMAGES[[1, 2]], IMAGES[[0]], data)
    assert "2 of 2 OE images are also anomalous test images" in caplog.text


def test_the_overlap_of_few_shots_is_that_of_the_images_used(tmp_path):
    """One of the two OE images is in the normal set; the overlap is measured on the one that the shot uses."""
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "normal.npy", images[:1].repeat(4, 0))
    np.save(tmp_path / "oe.npy", images)
    config = OeclConfig(
        data=OeclDataConfig(str(tmp_path / "normal.npy"), "", "none", "", "unlabelled", stored_size=8, image_size=8),
        oe=ExposureConfig(str(tmp_path / "oe.npy"), "", image_count=1),
        train=TrainConfig(batch_size=2),
    )
    outcomes = set()
    for seed in range(8):
        try:
            outcomes.add(read_run_data(dataclasses.replace(config, seed=seed)).oe.tobytes() == images[1].tobytes())
        except ProtocolError:
            outcomes.add("refused")
    assert outcomes == {True, "refused"}


def test_run_data_is_read_from_files(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "set.npz", x_train=images, y_train=np.arange(40) % 2, x_test=images, y_test=np.arange(40) % 2)
    np.save(tmp_path / "oe.npy", rng.integers(0, 256, (10, 8, 8, 3), dtype=np.uint8))
    config = OeclConfig(
        data=OeclDataConfig(train=str(tmp_path / "set.npz"), target="1", stored_size=8, image_size=8),
        oe=ExposureConfig(source=str(tmp_path / "oe.npy"), split=""),
        train=TrainConfig(batch_size=16),
    )
    data = read_run_data(config)
    np.testing.assert_array_equal(data.normal, images[1::2])
    assert data.oe is not None and len(data.oe) == 10
    assert data.test is not None and data.test.is_normal.sum() == 20


def test_batch_larger_than_the_set_is_refused():
    config = OeclConfig(
        data=OeclDataConfig(train="patterns", target="disc", stored_size=8, image_size=8),
        oe=ExposureConfig(source="patterns", split="oe"),
        train=TrainConfig(batch_size=1000),
    )
    with pytest.raises(ProtocolError, match="batch_size: 1000 is more than the 384"):
        read_run_data(config)


def test_patterns_are_disjoint_and_repeatable():
    assert not SHAPES.keys() & TEXTURES.keys()
    first, again = (draw_patterns("test", 8) for _ in range(2))
    np.testing.assert_array_equal(first.images, again.images)
    assert first.images.shape == (512, 8, 8, 3) and first.images.std() > 30
    train = {image.tobytes() for image in draw_patterns("train", 8).images}
    assert not any(image.tobytes() in train for image in first.images)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"augment": {"crop_scale": (0.4,)}}, "augment.crop_scale"),
        ({"augment": {"crop_scale": (0.9, 0.2)}}, "augment.crop_scale"),
        ({"augment": {"std": (0.0, 1.0, 1.0)}}, "augment.std"),
        ({"data": {"image_size": 64}}, "data.image_size"),
        ({"oe": {"source": ""}}, "oe.source"),
        ({"data": {"protocol": "multimodal"}}, "evaluation.ood"),
        ({"evaluation": {"ood": ("svhn=tfds:svhn_cropped",)}}, "evaluation.ood"),
        ({"data": {"protocol": "multimodal"}, "evaluation": {"ood": ("svhn",)}}, "expected NAME=SOURCE"),
        ({"data": {"protocol": "multimodal"}, "evaluation": {"ood": ("a=b", "a@c=d")}}, "two sets have the same name"),
        ({"data": {"train": ""}}, "data.train"),
        ({"train": {"objective": "oce"}}, "train.objective"),
        ({"train": {"learning_rate": float("nan")}}, "train.learning_rate"),
    ],
)
def test_settings_that_cannot_work_name_their_field(values, named):
    with pytest.raises(ConfigError, match=named):
        read_run_data(read_config(OeclConfig, values))
