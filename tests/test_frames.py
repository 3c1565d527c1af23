"""Photos kept in proportion or tiled: results depend on the frame, not on order, cache or devices."""

import dataclasses
from functools import lru_cache

import numpy as np
import pytest
from PIL import Image

from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.config import BankConfig, Config, DataConfig, ParallelConfig, SimilarityConfig
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.own_sets import as_samples
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.features import features
from codegraph_jax.features.extraction import Extractor
from tests.support.photos import drawn_parts
from tests.support.tiny_backbones import tiny_backbone

SIZE = 20
SHAPES = ((60, 40), (40, 60), (64, 64), (80, 30))


pytestmark = pytest.mark.usefixtures("tiny_presets")


def config_of(fit="pad", image_size=SIZE, scale=None, radius="all", **changes):
    backbone = tiny_backbone(image_size=image_size, fit=fit, scale=scale)
    changes.setdefault("parallel", ParallelConfig(devices=1))
    return Config(backbone=backbone, similarity=SimilarityConfig(radius=radius), **changes)


def mixed(n=14, seed=0):
    """Photos of every shape."""
    drawn = drawn_parts(n, seed)
    return [np.asarray(Image.fromarray(image).resize(SHAPES[i % len(SHAPES)])) for i, image in enumerate(drawn)]


KINDS = [("pad", 2), ("tile", 3)]


@pytest.fixture(scope="module")
def straight():
    """The results of `mixed()` in order on one device, by fit and radius."""
    return lru_cache(lambda fit, radius: CoDeGraph(config_of(fit, scale=0.6, radius=radius)).detect(mixed()))


def assert_same_scores(got, want, order=slice(None)):
    np.testing.assert_allclose(got.patch_scores, want.patch_scores[order], atol=3e-6)
    np.testing.assert_allclose(got.scores, want.scores[order], atol=3e-6)
    np.testing.assert_allclose(got.scores_rescored, want.scores_rescored[order], atol=1e-4)
    np.testing.assert_array_equal(got.flagged, want.flagged[order])


def test_squares_of_the_backbone_size_equal_squeezed_ones():
    images = [
        np.asarray(Image.fromarray(image).resize((SIZE, SIZE))) for image in draw_set(12, 64, 0, 0.2, (0.25,)).images
    ]
    want = CoDeGraph(config_of("squeeze")).detect(images)
    for fit in ("pad", "tile"):
        got = CoDeGraph(config_of(fit, scale=1.0)).detect(images)
        np.testing.assert_allclose(got.patch_scores, want.patch_scores, atol=1e-5)
        np.testing.assert_allclose(got.maps(), want.maps(), atol=1e-5)
        np.testing.assert_allclose(got.scores, want.scores, atol=1e-5)


@pytest.mark.parametrize("fit,radius", KINDS)
def test_the_order_of_the_images_changes_nothing(straight, fit, radius):
    images, order = mixed(), np.random.default_rng(1).permutation(14)
    detector = CoDeGraph(config_of(fit, scale=0.6, radius=radius))
    assert_same_scores(detector.detect([images[i] for i in order]), straight(fit, radius), order)


@pytest.mark.parametrize(
    "fit,radius,backend", [("pad", 2, "pmap"), pytest.param("tile", "all", "shard_map", marks=pytest.mark.slow)]
)
def test_batch_and_devices_change_nothing(straight, fit, radius, backend):
    images, config, want = mixed(), config_of(fit, scale=0.6, radius=radius), straight(fit, radius)
    batched = dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, batch_size=5))
    assert_same_scores(CoDeGraph(batched).detect(images), want)
    spread = dataclasses.replace(config, parallel=ParallelConfig(devices=3, backend=backend))
    assert_same_scores(CoDeGraph(spread).detect(images), want)


@pytest.mark.parametrize("fit,radius", KINDS)
def test_the_cache_changes_nothing_and_saves_the_backbone(straight, tmp_path, monkeypatch, fit, radius):
    images, config, want = mixed(), config_of(fit, scale=0.6, radius=radius), straight(fit, radius)
    cached = dataclasses.replace(config, data=DataConfig(cache=str(tmp_path)))
    assert_same_scores(CoDeGraph(cached).detect(images), want)
    monkeypatch.setattr(Extractor, "forward", None)
    again = CoDeGraph(cached).detect(images)
    assert_same_scores(again, want)
    assert again.from_cache_count == len(images)
    # another frame has other features
    other = dataclasses.replace(cached, backbone=dataclasses.replace(cached.backbone, image_size=40))
    with pytest.raises(TypeError):
        CoDeGraph(other).detect(images)


@pytest.mark.parametrize("fit,radius", KINDS)
def test_added_images_change_no_score_and_equal_the_bank(tmp_path, fit, radius):
    images, further = mixed(), [*mixed(4, seed=5), np.full((20, 200, 3), 90, np.uint8)]
    detector = CoDeGraph(config_of(fit, scale=0.6, radius=radius))
    alone = detector.detect(images, bank=BankConfig(kind="exact", photo_count=14))
    together = detector.detect(images, added=further)
    np.testing.assert_allclose(together.patch_scores[:14], alone.patch_scores, atol=3e-6)
    assert np.isfinite(together.scores).all()
    alone.bank.save(str(tmp_path / "bank.safetensors"), "float32")
    bank = ReferenceBank.load(str(tmp_path / "bank.safetensors"), backbone=detector.backbone)
    assert bank.frame == detector.frame_of(as_samples(images))
    inspection = bank.inspect(further)
    np.testing.assert_allclose(inspection.patch_scores, together.patch_scores[14:], atol=2e-5)
    np.testing.assert_allclose(inspection.scores, together.scores[14:], atol=2e-5)


def test_border_is_ignored():
    # another photo makes the grid higher: the others' scores change little, and patches outside of them have none
    images = mixed()
    result = CoDeGraph(config_of("pad")).detect(images)
    for i, rect in enumerate(result.placement.rects()):
        outside = np.ones(result.placement.frame.grid, bool)
        rect.cut(outside)[:] = False
        assert (result.patch_scores[i][outside] == 0).all()
        assert result.patch_scores[i][~outside].min() > 0
        assert result.scores[i] <= rect.cut(result.patch_scores[i]).max() + 1e-6
        assert not result.recurring.pattern_numbers[i][outside].any() if len(result.recurring.pattern_numbers) else True
    maps = result.maps(size=(33, 44))
    assert maps.shape == (14, 33, 44) and maps.min() > 0, "a map has no border"


def test_excluded_patches_are_neither_scored_nor_references():
    images = [np.array(image) for image in draw_set(14, 64, 0, 0.2, ()).images]
    inspected = np.zeros((64, 64), bool)
    inspected[:, :38] = True
    detector = CoDeGraph(config_of("squeeze"))
    clean = detector.detect(images, roi=inspected)
    inspected_patches = clean.placement.inspected.reshape(14, 5, 5)
    assert inspected_patches[:, :, :3].all() and not inspected_patches[:, :, 3:].any()
    assert (clean.patch_scores[~inspected_patches] == 0).all() and (clean.patch_scores[inspected_patches] > 0).all()
    whole = detector.detect(images)
    assert (clean.patch_scores[inspected_patches] >= whole.patch_scores[inspected_patches] - 0.05).all()
    everything = detector.detect(images, roi=np.ones((3, 5)))
    np.testing.assert_array_equal(everything.patch_scores, whole.patch_scores)


def test_only_sets_with_excluded_patches_use_the_masked_kernel(monkeypatch):
    """The masked kernel is slower."""
    images, detector, half = mixed(4), CoDeGraph(config_of("squeeze")), np.arange(5) < 3
    assert detector.compare(images, roi=half[None]).options.masked
    assert CoDeGraph(config_of("pad")).compare(images).options.masked
    monkeypatch.setattr(features, "zero_outside", None)
    for roi in (None, np.ones((3, 5))):
        assert not detector.compare(images, roi=roi).options.masked
    # the pixels of the photos are not looked at
    monkeypatch.setattr(features, "inspected_patches", None)
    assert not detector.compare(images).options.masked


def test_a_bank_stores_the_inspected_area(tmp_path):
    images = [np.array(image) for image in draw_set(16, 64, 0, 0.2, ()).images]
    inspected = np.zeros((64, 64), np.uint8)
    inspected[20:, :] = 255
    detector = CoDeGraph(config_of("squeeze"))
    result = detector.detect(
        images[:12], added=images[12:], roi=inspected, bank=BankConfig(kind="exact", photo_count=12)
    )
    result.bank.save(str(tmp_path / "bank.safetensors"), "float32")
    again = ReferenceBank.load(str(tmp_path / "bank.safetensors"), backbone=detector.backbone)
    inspection = again.inspect(images[12:])
    np.testing.assert_allclose(inspection.patch_scores, result.patch_scores[12:], atol=2e-5)
    assert not inspection.placement.inspected.reshape(-1, 5, 5)[:, 0].any()


def test_a_photo_without_inspected_patches_is_refused():
    images = mixed(4)
    thin = np.zeros((100, 100), bool)
    thin[:3] = True
    with pytest.raises(ConfigError, match=r"config\.data\.roi: nothing of 'images\[0\]' would be inspected"):
        CoDeGraph(config_of("squeeze")).detect(images, roi=thin)
