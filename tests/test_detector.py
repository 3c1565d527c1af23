"""The whole method: equal to an independent float64 version, and invariant to order, batches and devices."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from codegraph_jax.backbones import PRESETS, load_backbone
from codegraph_jax.backbones.loading import with_defaults
from codegraph_jax.config import (
    BackboneConfig,
    BankConfig,
    BankThresholdConfig,
    Config,
    DataConfig,
    ParallelConfig,
    RecurringConfig,
    ScoringConfig,
    SimilarityConfig,
    ThresholdConfig,
)
from codegraph_jax.consistency.review import Review, ReviewError
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.decoding import UnreadableImageError
from codegraph_jax.detector import CoDeGraph, TooFewImagesError
from codegraph_jax.features.extraction import Extractor, NotFiniteError
from tests.support.compiled_programs import compiled_programs
from tests.support.photos import drawn_parts
from tests.support.tiny_backbones import GOLDEN, TINY, tiny_backbone

CHAIN = Path(__file__).parent / "golden" / "chain" / "chain.npz"
ALONE = RecurringConfig(defects="off")


pytestmark = pytest.mark.usefixtures("tiny_presets")


def tiny(devices=1, **changes):
    return Config(backbone=tiny_backbone(), parallel=ParallelConfig(devices=devices), **changes)


@pytest.fixture(scope="module")
def twelve(tiny_presets):
    """Twelve images, and their result."""
    images = drawn_parts(12)
    return images, CoDeGraph(tiny()).detect(images)


def test_the_chain_equals_float64_numpy():
    golden = np.load(CHAIN)
    # on all devices of the host, as by default
    result = CoDeGraph(tiny(devices=None, recurring=ALONE)).detect(list(golden["images"]))
    np.testing.assert_allclose(result.patch_scores, golden["patch_scores"], atol=2e-5)
    np.testing.assert_allclose(result.maps(), golden["maps"], atol=2e-5)
    np.testing.assert_allclose(result.scores, golden["raw"], atol=2e-5)
    np.testing.assert_allclose(result.scores_rescored, golden["rescored"], atol=2e-3)
    np.testing.assert_array_equal(result.ranks[np.argsort(-result.scores)], np.arange(1, 10))


def test_the_order_of_the_images_changes_nothing():
    images, order = drawn_parts(), np.random.default_rng(1).permutation(24)
    detector = CoDeGraph(tiny())
    straight, shuffled = detector.detect(images), detector.detect([images[i] for i in order])
    np.testing.assert_allclose(shuffled.patch_scores, straight.patch_scores[order], atol=1e-6)
    np.testing.assert_allclose(shuffled.scores_rescored, straight.scores_rescored[order], atol=1e-5)
    np.testing.assert_array_equal(shuffled.recurring.defect_patches, straight.recurring.defect_patches[order])
    back = [tuple(int(order[i]) for i in c.members) for c in shuffled.recurring.groups]
    assert back == [c.members for c in straight.recurring.groups]


@pytest.mark.parametrize("batch_size", [1, 5, 32])
def test_the_batch_size_changes_nothing(twelve, batch_size):
    (images, one), config = twelve, tiny()
    config = dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, batch_size=batch_size))
    np.testing.assert_allclose(CoDeGraph(config).detect(images).patch_scores, one.patch_scores, atol=2e-6)


@pytest.mark.parametrize("devices", [1, 2])
def test_a_second_detector_compiles_nothing(devices):
    images, config = drawn_parts(12), tiny(devices)
    first = CoDeGraph(config).detect(images)
    with compiled_programs() as programs:
        second = CoDeGraph(config).detect(images)
    assert programs == []
    np.testing.assert_array_equal(second.patch_scores, first.patch_scores)
    # parameters are arguments of the shared program
    loaded = load_backbone(config.backbone)
    loaded = dataclasses.replace(loaded, params=jax.tree.map(lambda values: 2 * values, loaded.params))
    settings = Config(backbone=BackboneConfig(image_size=20), parallel=config.parallel)
    other = CoDeGraph(settings, backbone=loaded).detect(images)
    assert not np.allclose(other.patch_scores, first.patch_scores)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_small_sets_give_finite_scores(n):
    result = CoDeGraph(tiny()).detect(drawn_parts(24)[:n])
    assert result.patch_scores.shape == (n, 5, 5)
    assert np.isfinite(result.scores_rescored).all() and np.isfinite(result.maps()).all()
    assert sorted(result.ranks) == list(range(1, n + 1))


def test_one_image_is_too_few():
    with pytest.raises(TooFewImagesError, match="1 of 1 images can be read"):
        CoDeGraph(tiny()).detect(drawn_parts(4)[:1])


def test_identical_images_have_no_anomaly():
    result = CoDeGraph(tiny()).detect([drawn_parts(4)[0]] * 6)
    # the square root magnifies the rounding of a product near 1
    assert result.scores.max() < 2e-3
    assert result.recurring.groups == ()


def test_constant_images_are_scored():
    images = [np.full((32, 32, 3), value, np.uint8) for value in (0, 0, 128, 255)]
    assert np.isfinite(CoDeGraph(tiny()).detect(images).scores_rescored).all()


def test_unreadable_images_are_skipped_or_fatal(tmp_path):
    files = []
    for i, image in enumerate(drawn_parts(4)):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        files.append(str(tmp_path / f"{i}.png"))
    (tmp_path / "2.png").write_bytes(b"no image")
    result = CoDeGraph(tiny()).detect(files)
    np.testing.assert_array_equal(result.kept, [0, 1, 3])
    assert [index for index, _ in result.unreadable] == [2]
    expected = CoDeGraph(tiny()).detect([files[i] for i in (0, 1, 3)])
    np.testing.assert_array_equal(result.patch_scores, expected.patch_scores)
    with pytest.raises(UnreadableImageError, match=r"2\.png"):
        CoDeGraph(tiny(data=DataConfig(unreadable="error"))).detect(files)
    for file in files:
        Path(file).write_bytes(b"no image")
    with pytest.raises(TooFewImagesError, match="0 of 4 images can be read"):
        CoDeGraph(tiny()).detect(files, roi=np.ones((32, 32)))


def test_features_that_are_not_finite_stop_the_run_and_name_the_image():
    detector = CoDeGraph(tiny())
    broken = jax.tree.map(lambda x: x * np.nan, detector.backbone.params)
    backbone = dataclasses.replace(detector.backbone, params=broken)
    detector.extractor = dataclasses.replace(detector.extractor, backbone=backbone)
    with pytest.raises(NotFiniteError, match=r"images\[0\]: the backbone gives features that are not finite"):
        detector.detect(drawn_parts(4)[:3])


@pytest.fixture
def no_work(monkeypatch):
    def extract(*_, **__):
        raise AssertionError("the slow half has begun")

    monkeypatch.setattr(Extractor, "extract", extract)


@pytest.mark.parametrize("size", [1, True, -3, 2.5, "all"])
def test_the_size_of_a_bank_is_two_or_more(size):
    with pytest.raises(ConfigError, match=r"^BankConfig.photo_count: (.* is below 2|expected int)"):
        BankConfig(kind="exact", photo_count=size)


def test_settings_and_reviews_that_do_not_fit_are_refused_before_any_work(no_work):
    within = tiny(bank=BankConfig(kind="compact"), similarity=SimilarityConfig(radius=2))
    with pytest.raises(ConfigError, match=r"config\.bank\.kind: a compact bank"):
        CoDeGraph(within).detect(drawn_parts(4), bank=within.bank)
    detector = CoDeGraph(tiny())
    with pytest.raises(ReviewError, match="was made with other features"):
        detector.detect(drawn_parts(4), review=Review({**detector.feature_identity, "image_size": 40}, (), {}))


def test_a_loaded_backbone_can_be_handed_in():
    images, loaded = drawn_parts(6), load_backbone(tiny().backbone)
    got, want = CoDeGraph(backbone=loaded, image_size=20), CoDeGraph(tiny(devices=None))
    assert got.backbone is loaded and got.feature_identity == want.feature_identity
    np.testing.assert_array_equal(got.detect(images).patch_scores, want.detect(images).patch_scores)
    with pytest.raises(ConfigError, match=r"config\.backbone\.blocks: the given backbone has its own"):
        CoDeGraph(backbone=loaded, image_size=20, blocks=(1,))
    with pytest.raises(ConfigError, match=r"config\.backbone\.image_size: 21 is not a multiple"):
        CoDeGraph(tiny(), backbone=loaded, image_size=21)


def test_the_repr_of_results_is_one_line():
    detector = CoDeGraph(tiny())
    comparison = detector.compare(drawn_parts(12))
    result = detector.score(comparison, bank=BankConfig(kind="exact", photo_count=4))
    groups = len(result.recurring.groups)
    flagged = int(result.flagged.sum())
    assert repr(result) == f"DetectionResult(12 images, {flagged} flagged, {groups} group{'s' * (groups != 1)})"
    for shown in (result.bank.inspect(drawn_parts(2)), result.bank, result.recurring, comparison):
        assert len(repr(shown)) < 120 and "\n" not in repr(shown)


def test_a_backbone_is_named_by_its_argument():
    detector = CoDeGraph(backbone="tiny-dinov2", weights=str(GOLDEN / "dinov2.safetensors"), image_size=20)
    assert detector.backbone.preset.name == TINY["dinov2"].name
    with pytest.raises(ConfigError, match="did you mean 'dinov2-base'"):
        CoDeGraph(backbone="dinov2-bse")
    with pytest.raises(ConfigError, match=r"takes a Config, got 'tiny-dinov2'.*CoDeGraph\(backbone='dinov2-base'\)"):
        CoDeGraph("tiny-dinov2")


def test_size_and_rescoring_follow_the_network(monkeypatch):
    for name, tells in (("talking", True), ("mute", False)):
        preset = dataclasses.replace(TINY["dinov2"], discriminative=tells, max_default_size=518 if tells else 28)
        monkeypatch.setitem(PRESETS, name, preset)
        sees = preset.max_default_size // preset.patch_size * preset.patch_size
        settled = with_defaults(Config(backbone=BackboneConfig(name=name)), preset)
        assert (settled.scoring.rescore, settled.backbone.image_size) == (tells, sees)
        given = with_defaults(Config(backbone=BackboneConfig(name=name, image_size=20)), preset)
        assert given.backbone.image_size == 20
        forced = Config(backbone=BackboneConfig(name=name), scoring=ScoringConfig(rescore=not tells))
        forced = with_defaults(forced, preset)
        assert forced.scoring.rescore is not tells
    with pytest.raises(ConfigError, match="ScoringConfig.rescore: expected bool, got 'off'"):
        ScoringConfig(rescore="off")


def test_fields_of_the_backbone_can_be_given_by_name():
    detector = CoDeGraph(tiny(), backbone="tiny-dinov2", image_size=40)
    assert detector.config.backbone.image_size == 40
    with pytest.raises(ConfigError, match="config.backbone"):
        CoDeGraph(tiny(), resolution=40)


def test_short_defects_are_tolerated_in_sets_banks_and_reviews(twelve):
    images, plain = twelve
    strict, lenient = (
        CoDeGraph(tiny(threshold=ThresholdConfig("share:25%", min_defect_length=smallest), bank=BankConfig()))
        for smallest in (0.5, 1e6)
    )
    flagged = strict.detect(images).flagged
    assert flagged.sum() == 3, "no defect is shorter than half a pixel"
    result = lenient.detect(images, bank=BankConfig(kind="exact", photo_count=8))
    assert not result.flagged.any() and result.tolerated.tolist() == flagged.tolist()
    assert [result.verdicts[i] for i in np.flatnonzero(flagged)] == ["passed"] * 3
    np.testing.assert_array_equal(result.scores, plain.scores)

    first = int(np.flatnonzero(flagged)[0])
    again = lenient.detect(images, review=result.review(photos={first: "defective"}))
    assert again.flagged[first] and not again.tolerated[first], "answers of a person have priority"

    bank = result.bank
    assert bank.calibration.min_defect_length == 1e6
    always = bank.with_threshold(BankThresholdConfig("score:0.0001", 0.5))
    assert always.inspect(images[:2]).flagged.all()
    tolerant = always.with_threshold(BankThresholdConfig(min_defect_length=1e6))
    assert not tolerant.inspect(images[:2]).flagged.any()
    assert tolerant.with_threshold(BankThresholdConfig()).calibration.min_defect_length == 1e6
    assert not tolerant.with_threshold(BankThresholdConfig(min_defect_length=0)).calibration.min_defect_length


def test_only_inspected_pixels_count_for_the_length_of_a_defect(twelve):
    images, _ = twelve
    detector = CoDeGraph(tiny(threshold=ThresholdConfig("share:25%", min_defect_length=12)))
    assert detector.detect(images).flagged.any()
    # a square of at most 11 px within each patch of 12.8 px
    inside = np.arange(64) * 5 / 64 % 1 < 0.82
    result = detector.detect(images, roi=np.outer(inside, inside).astype(np.uint8))
    assert result.placement.everything_inspected, "every patch is inspected"
    assert not result.flagged.any() and result.tolerated.sum() == 3
