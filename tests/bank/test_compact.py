"""Compact banks: the patches of a pool, their scores, and the bank that a run makes."""

import dataclasses
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegraph_jax.bank.file import BankError
from codegraph_jax.bank.making import _own_scores
from codegraph_jax.bank.pool import SHARPNESS, Pool, degree_vectors
from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.bank.thinning import thin
from codegraph_jax.config import BankConfig, Config, SimilarityConfig
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.core.tensors import read_tensors, write_tensors
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.similarity.host_tables import table_scores
from codegraph_jax.similarity.pair_distances import DistanceOptions
from codegraph_jax.similarity.references import neighbour_count
from codegraph_jax.similarity.removal import Exclusions
from codegraph_jax.similarity.valid import INVALID
from tests.support.networks import random_config

pytestmark = pytest.mark.usefixtures("shallow")

SET_SIZE, NEW_COUNT = 14, 5
OPTIONS = DistanceOptions("direct", (1, 3), (4, 4), "float32")


def configured(patches: int = 64, **fields) -> Config:
    return random_config(bank=BankConfig(kind="compact", patch_count=patches), **fields)


@pytest.fixture(scope="module")
def images():
    return list(draw_set(SET_SIZE + NEW_COUNT, 56, 3, 0.2, (0.3,)).images)


@pytest.fixture(scope="module")
def made(images):
    """A run, and the detector that made it."""
    detector = CoDeGraph(configured())
    return detector.detect(images[:SET_SIZE], bank=detector.config.bank), detector


def drawn_pool(seed: int, patches: int = 7) -> tuple[Pool, list[np.ndarray]]:
    """A pool of random vectors, and the tokens of an image."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(2, 2, patches, 6))
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    own = rng.uniform(0, 0.5, (2, 2, patches))
    pool = Pool(OPTIONS, list(vectors.astype(np.float32)), own.astype(np.float32), np.zeros(patches, int))
    return pool, list(rng.normal(size=(2, 16, 6)))


def test_scores_are_a_kernel_density_of_squared_distances_and_squared_own_scores():
    pool, image = drawn_pool(0)
    want = np.zeros(16)
    for tokens, layer, own in zip(image, pool.layers, pool.own_scores):
        for x, y, s in zip(degree_vectors(jnp.asarray(tokens, jnp.float32), OPTIONS), layer, own):
            squared = np.square(np.asarray(x)[:, None].astype(np.float64) - y[None]).sum(axis=-1)
            b = SHARPNESS / np.median(s**2)
            density = np.exp(-b / 2 * (squared + s**2)).mean(axis=1)
            want += np.sqrt(-2 / b * np.log(density)) / 4
    scores = pool.scores([jnp.asarray(x, jnp.float32) for x in image], np.ones(16, bool))
    np.testing.assert_allclose(scores, want, atol=1e-5)


def test_a_patch_of_the_pool_has_the_score_that_it_had_in_the_set():
    pool, image = drawn_pool(1)
    tokens = [jnp.asarray(x, jnp.float32) for x in image]
    vectors = [np.stack([np.asarray(x)[[5]] for x in degree_vectors(layer, OPTIONS)]) for layer in tokens]
    alone = Pool(OPTIONS, vectors, pool.own_scores[:, :, :1], np.zeros(1, int))
    assert alone.scores(tokens, np.ones(16, bool))[5] == pytest.approx(pool.own_scores[:, :, 0].mean(), abs=2e-3)


def test_close_neighbours_in_the_pool_lower_a_score():
    """Of two patches at the same distance from the pool, the one with more close neighbours scores lower."""
    vectors = np.eye(4, dtype=np.float32)[[0, 1, 1, 1]][None]
    own = np.full((1, 1, 4), 0.3, np.float32)
    options = OPTIONS._replace(degrees=(1,), grid=(1, 2))
    tokens = np.float32([[1, 0, 0.2, 0], [0, 1, 0.2, 0]])
    alone, among = Pool(options, [vectors], own, np.zeros(4, int)).scores([jnp.asarray(tokens)], np.ones(2, bool))
    assert among < alone


def test_patches_that_are_not_inspected_have_no_score():
    pool, image = drawn_pool(3)
    valid = np.arange(16) % 3 > 0
    scores = pool.scores([jnp.asarray(x, jnp.float32) for x in image], valid)
    assert (scores[~valid] == INVALID).all() and (scores[valid] >= 0).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40))
def test_thinning_gives_distinct_patches_in_which_the_lowest_score_is_first(seed, wanted):
    rng = np.random.default_rng(seed)
    vectors, own = rng.normal(size=(40, 3)).astype(np.float32), rng.uniform(size=40).astype(np.float32)
    kept = thin(vectors, own, wanted)
    assert len(kept) == wanted == len(set(kept.tolist()))
    assert kept[0] == np.argmin(own)


def test_thinning_covers_every_cluster_before_any_twice():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(20, 5)) * 10
    vectors = (centres[np.arange(400) % 20] + rng.normal(size=(400, 5)) * 0.1).astype(np.float32)
    kept = thin(vectors, np.full(400, 0.01), 20)
    assert sorted(kept % 20) == list(range(20))


def test_thinning_removes_isolated_patches():
    # a hundred ordinary patches, and ten isolated ones with high scores
    rng = np.random.default_rng(1)
    vectors = np.concatenate([rng.normal(size=(100, 8)) * 0.1, rng.normal(size=(10, 8)) * 3]).astype(np.float32)
    own = np.concatenate([np.full(100, 0.1), np.square(vectors[100:]).sum(axis=1) * 1.5])
    assert (thin(vectors, own, 10) < 100).all()


def test_a_set_fills_a_pool_of_the_size_asked_for(made, images):
    result, detector = made
    pool = result.bank.references
    assert str(pool) == "64 patches"
    assert pool.own_scores.shape == (2, 3, 64) and {layer.shape for layer in pool.layers} == {(3, 64, 384)}
    np.testing.assert_allclose(np.linalg.norm(pool.layers[0], axis=-1), 1, atol=1e-5)
    everything = detector.detect(images[:SET_SIZE], bank=BankConfig(kind="compact", patch_count=10_000)).bank
    assert everything.references.own_scores.shape[2] < SET_SIZE * 16


def test_the_order_of_the_images_changes_nothing(made, images):
    result, detector = made
    other = detector.detect(images[SET_SIZE - 1 :: -1], bank=detector.config.bank).bank
    assert other.calibration.threshold == pytest.approx(result.bank.calibration.threshold, abs=1e-5)
    np.testing.assert_allclose(
        other.anomaly_scores(images[SET_SIZE:]), result.bank.anomaly_scores(images[SET_SIZE:]), atol=1e-5
    )


def test_a_saved_pool_scores_as_before(made, images, tmp_path):
    result, detector = made
    result.bank.save(str(tmp_path / "whole.safetensors"), "float32")
    again = ReferenceBank.load(str(tmp_path / "whole.safetensors"), backbone=detector.backbone)
    np.testing.assert_array_equal(
        again.anomaly_scores(images[SET_SIZE:]), result.bank.anomaly_scores(images[SET_SIZE:])
    )
    assert again.calibration.threshold == result.bank.calibration.threshold
    result.bank.save(str(tmp_path / "half.safetensors"))
    half = ReferenceBank.load(str(tmp_path / "half.safetensors"), backbone=detector.backbone)
    np.testing.assert_allclose(
        half.anomaly_scores(images[SET_SIZE:]), result.bank.anomaly_scores(images[SET_SIZE:]), atol=1e-3
    )


def test_new_images_of_the_product_score_like_the_set(made):
    """The threshold is calibrated with pools without patches of the scored images."""
    result, _ = made
    fresh = list(draw_set(24, 56, 91, 0.0, ()).images)
    scores = result.bank.anomaly_scores(fresh)
    normal = result.bank.calibration.normal_scores
    assert abs(np.median(scores) - normal.mean) < 2 * normal.deviation


def test_recurring_defects_are_not_references(images):
    detector = CoDeGraph(configured(10_000))
    comparison = detector.compare(images[:SET_SIZE])
    result = detector.score(comparison, bank=detector.config.bank)
    standing_out = result.patch_scores.reshape(SET_SIZE, -1) >= result.calibration.score_of_1_in_10
    assert standing_out.any()
    assert result.bank.references.own_scores.shape[2] == (~standing_out).sum()


def test_members_of_a_recurring_defect_make_no_patch_look_ordinary(images):
    comparison = CoDeGraph(configured()).compare(images[:SET_SIZE])
    member = np.arange(SET_SIZE) < 5
    tables = [np.array(table) for table in comparison.tables]
    for table in tables:
        table[:, :, member] *= 0.01
    comparison = dataclasses.replace(comparison, tables=dataclasses.replace(comparison.tables, tables=tables))

    def own(defects):
        found = SimpleNamespace(defect_members=lambda n: np.isin(np.arange(n), defects))
        return np.stack(_own_scores(comparison, found, Exclusions.none(comparison.shape), 0.3))  # type: ignore[arg-type]

    k = neighbour_count(SET_SIZE - 5, 0.3)
    by_others = np.stack([table_scores(table, k, np.flatnonzero(~member)) for table in tables])
    assert (own(np.flatnonzero(member)) >= by_others).all()
    assert (own([]) < 0.1 * by_others).all()


def test_a_radius_is_refused_with_a_compact_bank(images):
    detector = CoDeGraph(configured(similarity=SimilarityConfig(radius=2)))
    with pytest.raises(ConfigError, match="does not store the positions"):
        detector.detect(images[:4], bank=detector.config.bank)


@pytest.mark.parametrize("change", ["own", "layer", "scores", "missing"])
def test_a_pool_whose_parts_do_not_fit_is_refused(made, tmp_path, change):
    result, detector = made
    path = tmp_path / "bank.safetensors"
    result.bank.save(str(path))
    tensors, about = read_tensors(path)
    if change == "own":
        tensors["own_scores"] = tensors["own_scores"][:, :1]
    elif change == "layer":
        tensors["layer1"] = tensors["layer1"][:, :5]
    elif change == "scores":
        tensors["own_scores"] = tensors["own_scores"] * np.nan
    else:
        del tensors["own_scores"]
    write_tensors(path, tensors, about)
    with pytest.raises(BankError, match="not a reference bank"):
        ReferenceBank.load(str(path), backbone=detector.backbone)


def test_products_in_bfloat16_come_close(images):
    near = CoDeGraph(configured(precision="bfloat16"))
    exact = CoDeGraph(configured())
    banks = [detector.detect(images[:6], bank=detector.config.bank).bank for detector in (near, exact)]
    first, second = (bank.anomaly_scores(images[SET_SIZE:]) for bank in banks)
    np.testing.assert_allclose(first, second, rtol=0.05)
