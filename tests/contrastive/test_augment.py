"""Augmentation against torchvision: the operations by golden arrays, the random draws by their distributions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from contrastive_jax.config import AugmentConfig
from contrastive_jax.views import augment, color
from tests.support.training import GOLDEN

ARRAYS = np.load(GOLDEN / "augment.npz")
PIXELS = ARRAYS["image"].astype(np.float32) / 255


@pytest.mark.parametrize("size", [8, 16])
def test_crop_and_resize_equal_torchvision(size):
    crops = jax.vmap(lambda box: augment.crop_resize(jnp.asarray(PIXELS), box, size))(jnp.asarray(ARRAYS["boxes"]))
    np.testing.assert_allclose(crops, ARRAYS[f"crops_{size}"], atol=2e-6)


@pytest.mark.parametrize(
    ("name", "operation"),
    [("brightness", color.BRIGHTNESS), ("contrast", color.CONTRAST), ("saturation", color.SATURATION)],
)
def test_colour_blends_equal_torchvision(name, operation):
    for factor, expected in zip(ARRAYS[f"{name}_factors"], ARRAYS[name]):
        actual = color.blend(jnp.asarray(PIXELS), jnp.float32(factor), jnp.int32(operation))
        np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_hue_shifts_equal_torchvision():
    for turn, expected in zip(ARRAYS["hue_factors"], ARRAYS["hue"]):
        np.testing.assert_allclose(color.shift_hue(jnp.asarray(PIXELS), jnp.float32(turn)), expected, atol=1e-5)


def test_every_order_of_the_jitter():
    adjust = jax.jit(jax.vmap(color.adjust, (None, 0, 0)))
    actual = adjust(jnp.asarray(PIXELS), jnp.asarray(ARRAYS["factors"]), jnp.asarray(ARRAYS["orders"]))
    np.testing.assert_allclose(actual, ARRAYS["jittered"], atol=1e-5)


def test_grayscale_and_rotation_equal_torchvision():
    gray = color.random_grayscale(jax.random.key(0), jnp.asarray(PIXELS), 1.0)
    np.testing.assert_allclose(gray, ARRAYS["gray"], atol=1e-6)
    square = jnp.asarray(PIXELS[None, :, :14])
    np.testing.assert_allclose(augment.rotate(square, 90)[0], ARRAYS["quarter_turn"], atol=1e-6)
    np.testing.assert_array_equal(augment.rotate(augment.rotate(square, 90), 270), square)


@pytest.mark.parametrize(
    ("name", "shape", "scale"), [("square", (32, 32), (0.08, 1.0)), ("wide", (20, 60), (0.5, 1.0))]
)
def test_boxes_are_drawn_as_torchvision_draws_them(name, shape, scale):
    keys = jax.random.split(jax.random.key(3), 3000)
    ours = np.asarray(jax.jit(jax.vmap(lambda key: augment.random_box(key, *shape, scale)))(keys), float)
    theirs = ARRAYS[f"draws_{name}"].astype(float)
    assert (ours[:, 0] >= 0).all() and (ours[:, 1] >= 0).all()
    assert (ours[:, 0] + ours[:, 2] <= shape[0]).all() and (ours[:, 1] + ours[:, 3] <= shape[1]).all()
    for statistic in (
        lambda b: b[:, 2] * b[:, 3],
        lambda b: b[:, 3] / b[:, 2],
        lambda b: b[:, 0],
        lambda b: b[:, 1],
        lambda b: b[:, 0] + b[:, 2],
    ):
        assert ks_2samp(statistic(ours), statistic(theirs)).pvalue > 1e-3


def test_frequencies_of_the_random_choices(monkeypatch):
    """Each switch of the augmentation is on at the rate of its probability, independently of other images."""
    size = 8
    image = np.zeros((size, size, 3), np.uint8)
    image[:, : size // 2] = (200, 60, 30)
    image[:, size // 2 :] = (20, 90, 180)
    keys = jax.random.split(jax.random.key(1), 2000)
    whole = AugmentConfig(crop_scale=(1.0, 1.0))
    with monkeypatch.context() as plain:
        plain.setattr(augment, "JITTER", (0.0, 0.0, 0.0, 0.0))
        view = jax.vmap(lambda key: augment.augment(key, jnp.asarray(image), whole, size))
        views = np.asarray(jax.jit(view)(keys))
    gray = np.ptp(views, axis=-1).max((1, 2)) < 1e-4
    assert abs(gray.mean() - 0.2) < 0.04
    left_is_red = views[~gray][:, 0, 0, 0] > views[~gray][:, 0, 0, 2]
    assert abs(left_is_red.mean() - 0.5) < 0.05
    # the same key gives the same view, and different keys give different ones
    jittered = AugmentConfig()
    draw = jax.jit(jax.vmap(lambda key: augment.augment(key, jnp.asarray(image), jittered, size)))
    np.testing.assert_array_equal(draw(keys[:50]), draw(keys[:50]))
    # an image has two halves, so a crop without jitter is sometimes equal
    assert len(np.unique(np.asarray(draw(keys[:50])).reshape(50, -1), axis=0)) >= 45


def test_jitter_factors_cover_their_ranges():
    keys = jax.random.split(jax.random.key(0), 500)
    gray_image = jnp.full((2, 2, 3), 0.5)

    @jax.jit
    def jittered(probability):
        strengths = (0.4, 0.0, 0.0, 0.0)
        return jax.vmap(lambda key: color.random_jitter(key, gray_image, strengths, probability))(keys)[:, 0, 0, 0]

    bright = jittered(1.0)
    assert 0.3 <= bright.min() < 0.31 and 0.69 < bright.max() <= 0.7 + 1e-6
    skipped = jittered(0.8)
    assert abs(float((skipped == 0.5).mean()) - 0.2) < 0.06


MATRICES = {size: jax.jit(augment.resize_matrix, static_argnums=(2, 3)) for size in (5, 12, 32)}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(0, 19), st.sampled_from(sorted(MATRICES)))
def test_resize_weights_are_a_partition_of_unity(length, start, size):
    start = min(start, 20 - length)
    weights = np.asarray(MATRICES[size](jnp.int32(start), jnp.int32(length), 20, size))
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)
    assert not weights[:, :start].any() and not weights[:, start + length :].any()
    if length == size:
        np.testing.assert_allclose(weights[:, start : start + length], np.eye(size), atol=1e-6)


def test_clean_views_are_cropped_or_resized_only():
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    config = AugmentConfig(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    same = augment.clean_batch(jnp.asarray(images), config, 16, "whole")
    np.testing.assert_allclose(same, images / np.float32(255), atol=1e-6)
    middle = augment.clean_batch(jnp.asarray(images), config, 8, "center_crop")
    np.testing.assert_allclose(middle, images[:, 4:12, 4:12] / np.float32(255), atol=1e-6)
    halved = augment.clean_batch(jnp.asarray(images), config, 8, "whole")
    np.testing.assert_allclose(halved.mean(), images.mean() / 255, atol=0.01)
