"""Blank photos are refused."""

import logging

import numpy as np
import pytest
from PIL import Image

from codegraph_jax import CoDeGraph
from codegraph_jax.config import Config
from codegraph_jax.data.batches import ImageBatches
from codegraph_jax.data.blank_photos import NothingToCompareError, refuse_blank_photos
from codegraph_jax.data.own_sets import as_samples
from codegraph_jax.data.samples import Sample
from tests.support.networks import random_backbone

pytestmark = pytest.mark.usefixtures("shallow")

RNG = np.random.default_rng(0)
SHAPE = (4, 30, 40)


def checked(root, values, meant=False):
    """The check of a set of such photos, as detection makes it."""
    files = []
    for i, own in enumerate(np.asarray(values, np.uint8)):
        Image.fromarray(own).save(root / f"{i}.png")
        files.append(Sample.of(root / f"{i}.png"))
    check(files, meant)


def check(files, meant=False):
    batches = ImageBatches(files, lambda image: np.asarray(image, np.float32), 4)
    keys = dict(pair for batch in batches for pair in zip(batch.indices.tolist(), batch.keys, strict=True))
    first = {key: i for i, key in reversed(sorted(keys.items()))}
    kept = sorted(first.values())
    copies = [(i, kept.index(first[key])) for i, key in keys.items() if first[key] != i]
    refuse_blank_photos(files, kept, copies, batches.grey_levels, meant)


@pytest.mark.parametrize(
    "values",
    [
        100 + RNG.integers(0, 6, SHAPE),
        np.concatenate([RNG.integers(0, 5, SHAPE), RNG.integers(0, 256, SHAPE)]),
        RNG.integers(254, 256, SHAPE),
    ],
)
def test_blank_photos_are_refused(values, tmp_path):
    with pytest.raises(NothingToCompareError, match="4 of [48] photos .* nearly blank, .*0.png.*data.range=0,255 uses"):
        checked(tmp_path, values)
    checked(tmp_path, values, meant=True)


@pytest.mark.parametrize(
    "values",
    [
        RNG.integers(0, 2, SHAPE) * 255,
        RNG.normal(128, 4, SHAPE),
        np.concatenate([np.full((1, 30, 40), 255), RNG.integers(0, 256, SHAPE)]),
    ],
)
def test_drawings_even_surfaces_and_single_blank_photos_raise_no_warning(values, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        checked(tmp_path, values)
    assert not caplog.text


def test_few_grey_levels_are_warned_of(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        checked(tmp_path, RNG.integers(0, 12, SHAPE))
    assert "4 of 4 photos use only about 12 of 256 grey levels" in caplog.text


def test_copies_of_one_photo_are_refused(tmp_path):
    with pytest.raises(NothingToCompareError, match="all 4 photos are identical"):
        checked(tmp_path, np.repeat(RNG.integers(0, 256, (1, 30, 40)), 4, axis=0))


def test_images_of_pillow_are_checked_as_files_are_and_arrays_are_not(caplog):
    photo = RNG.integers(0, 256, (30, 40), np.uint8)
    with pytest.raises(NothingToCompareError, match="all 4 photos are identical"):
        check(as_samples([Image.fromarray(photo)] * 4))
    blank = RNG.integers(0, 6, SHAPE).astype(np.uint8)
    with pytest.raises(NothingToCompareError, match="4 of 4 photos .* nearly blank"):
        check(as_samples([Image.fromarray(own) for own in blank]))
    check(as_samples([photo] * 4))
    check(as_samples(blank))
    assert not caplog.text


def test_detection_refuses_blank_photos(tmp_path):
    files = []
    for i in range(3):
        Image.new("RGBA", (40, 30), (i, 9, 9, 255)).save(tmp_path / f"{i}.png")
        files.append(str(tmp_path / f"{i}.png"))
    with pytest.raises(NothingToCompareError):
        CoDeGraph(Config(backbone=random_backbone(image_size=28, blocks=(1,)))).detect(files)
