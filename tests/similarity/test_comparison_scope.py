"""The comparison scope: all patches if that is cheap, otherwise the cheapest scope with the same ranking."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from codegraph_jax import CoDeGraph
from codegraph_jax.config import Config, SimilarityConfig
from codegraph_jax.data.own_sets import as_samples
from codegraph_jax.similarity import comparison_scope, time_estimate
from codegraph_jax.similarity.comparison_scope import RADII, ComparisonScope, choose_scope
from codegraph_jax.similarity.plan import plan_set
from studies.plates import draw_plates
from tests.support.networks import random_backbone

GRID, CHANNELS, IMAGES = (40, 56), 24, 40
CONFIG = Config(similarity=SimilarityConfig(references="auto", radius="auto"))
BACKBONE = SimpleNamespace(width=CHANNELS, blocks=(0, 1))


def features(shift, **other):
    """Two layers of tokens of a smooth pattern, which lies up to `shift` cells away from its place in each image.

    Some areas of the pattern vary more between images than others.
    """
    rng = np.random.default_rng(0)
    pattern = gaussian_filter(rng.normal(size=(*GRID, CHANNELS)), (1, 1, 0), mode="wrap")
    variation = 0.3 * np.exp(10 * gaussian_filter(rng.normal(size=(*GRID, 1)), (4, 4, 0), mode="wrap"))
    moves = rng.integers(-shift, shift + 1, (IMAGES, 2)) if shift else np.zeros((IMAGES, 2), int)
    images = [pattern + variation * gaussian_filter(rng.normal(size=pattern.shape), (1, 1, 0)) for _ in moves]
    layer = np.stack([np.roll(image, move, (0, 1)) for image, move in zip(images, moves)])
    layer = (layer / layer.std()).astype(np.float32).reshape(IMAGES, -1, CHANNELS)
    given = {"layers": [layer, -layer], "keys": [i.to_bytes(4) for i in range(IMAGES)], "kept": np.arange(IMAGES)}
    return SimpleNamespace(**given | {"placement": SimpleNamespace(inspected=np.ones(layer.shape[:2], bool))} | other)


WITHIN = set(RADII)


def choose(given, config=CONFIG):
    return choose_scope(given, config, BACKBONE, GRID, IMAGES)


@pytest.fixture
def costly(monkeypatch):
    """Makes the full comparison slow enough for a choice, and fast enough to be run."""
    monkeypatch.setattr(time_estimate, "ALWAYS_FULL_SHARE", 0.0)


def test_a_cheap_comparison_is_made_in_full():
    assert choose(features(0)) == ComparisonScope(None, None)


@pytest.mark.parametrize("radius", ["all", 3])
def test_a_radius_and_references_that_the_user_chose_are_kept(costly, radius):
    config = replace(CONFIG, similarity=SimilarityConfig(radius=radius, references=20))
    assert choose(features(0), config) == ComparisonScope(None if radius == "all" else radius, 20)


def test_a_radius_of_the_user_is_used_without_a_message(costly):
    config = replace(CONFIG, similarity=SimilarityConfig(radius=3, references="auto"))
    assert choose(features(0), config) == ComparisonScope(3, None)
    every = replace(CONFIG, similarity=SimilarityConfig(radius=3))
    backbone = SimpleNamespace(**vars(BACKBONE), flop=lambda rows, columns: 1.0)
    frame = SimpleNamespace(grid=GRID, tile=0, tiles=lambda: [0])
    taken, whole = (time_estimate._work(one, backbone, IMAGES, frame) for one in (config, every))
    assert taken == whole, "there is no choice"


def test_parts_that_lie_alike_are_compared_within_a_radius(costly):
    chosen = choose(features(0))
    assert chosen.radius in WITHIN and chosen.references is None
    assert f"similarity.radius={chosen.radius}" in chosen.reason


def test_the_number_of_references_of_the_user_is_kept(costly):
    chosen = choose(features(0), replace(CONFIG, similarity=SimilarityConfig(radius="auto", references=20)))
    assert chosen.radius in WITHIN and chosen.references == 20


def test_parts_that_lie_differently_are_compared_with_fewer_photos(costly):
    chosen = choose(features(25))
    assert chosen.radius is None and 0 < chosen.references < IMAGES
    assert f"{chosen.references} others" in chosen.reason


def test_everything_is_compared_where_less_changes_the_ranking(costly, monkeypatch):
    monkeypatch.setattr(comparison_scope, "AGREEMENT", 1.0)
    chosen = choose(features(25))
    assert (chosen.radius, chosen.references) == (None, None) and "all patches" in chosen.reason


def test_the_time_limits_the_choice_and_the_reason_tells_the_agreement(costly, monkeypatch):
    monkeypatch.setattr(comparison_scope, "AGREEMENT", 1.0)
    monkeypatch.setattr(comparison_scope, "affordable_work", lambda: 0.0)
    reason = choose(features(25)).reason
    assert "correlation 0." in reason and "ranked differently" in reason


def test_excluded_areas_are_not_sampled(costly):
    """Patches that are not inspected are not used as references."""
    given, inspected = features(0), np.zeros((IMAGES, *GRID), bool)
    inspected[:, 8:32] = True
    inspected = inspected.reshape(IMAGES, -1)
    other = [np.where(inspected[..., None], layer, 0) for layer in given.layers]
    masked = features(0, layers=other, placement=SimpleNamespace(inspected=inspected))
    assert choose(masked).radius in WITHIN


def test_the_choice_is_that_of_the_setting(costly, shallow, monkeypatch):
    """A run with the chosen radius equals a run with that radius set by hand, and prints the choice before."""
    monkeypatch.setattr(time_estimate, "WINDOW_EFFICIENCY", 1e3)
    monkeypatch.setattr(comparison_scope, "AGREEMENT", 0.0)
    backbone = random_backbone(image_size=112)
    samples = as_samples([photo for _, photo, _ in draw_plates(6, 112, 112, defect_pixels=(8, 16))])

    def compared(radius):
        texts, config = [], Config(backbone=backbone, similarity=SimilarityConfig(radius=radius))
        detector = CoDeGraph(config)
        plan = plan_set(detector.config, detector.backbone, detector.mesh, samples, detector.frame_of(samples))
        return detector, detector.compare_set(plan, log=texts.append), texts

    detector, chosen, (text,) = compared("auto")
    radius = chosen.options.radius
    assert radius in RADII and f"radius={radius}" in text
    result = detector.score(chosen)
    assert (result.reference_count, result.radius) == (6, radius)
    _, by_hand, texts = compared(radius)
    assert not texts
    for found, expected in zip(chosen.tables.means(), by_hand.tables.means(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_small_set_is_planned_as_without_a_choice(shallow):
    backbone = random_backbone(image_size=112)
    samples = as_samples([np.zeros((112, 112), np.uint8)] * 6)

    def plan(radius):
        detector = CoDeGraph(Config(backbone=backbone, similarity=SimilarityConfig(radius=radius)))
        memory = plan_set(detector.config, detector.backbone, detector.mesh, samples, detector.frame_of(samples)).memory
        return memory.working_bytes, memory.table_bytes

    assert plan("auto") == plan("all") != plan(4)
