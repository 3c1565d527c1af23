"""Distances in fewer channels: exact where tokens have no more, the same on every route, and never in a bank."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegraph_jax.backbones import PRESETS
from codegraph_jax.config import BackboneConfig, BankConfig, Config, ParallelConfig, StorageConfig
from codegraph_jax.consistency.filtered import Filter, filtered_scores
from codegraph_jax.core.arrays import in_memory
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.features.on_device import DeviceLayers
from codegraph_jax.scoring.mutual import mean_over_layers
from codegraph_jax.scoring.panel import Panel, panel_scores
from codegraph_jax.similarity import subspace
from codegraph_jax.similarity.comparison import Comparison
from codegraph_jax.similarity.pairwise import pairwise_distances
from codegraph_jax.similarity.subspace import in_subspaces
from codegraph_jax.similarity.tiles import TileOptions
from tests.backbones.tiny import GOLDEN, TINY
from tests.consistency import planted

GRID = (8, 8)


def features(n=20, channels=96, rank=96, seed=0):
    """Tokens of n images, in `rank` directions of their channels."""
    rng = np.random.default_rng(seed)
    tokens = planted.draw(n, group=4, one_off=2, channels=rank, seed=seed) @ rng.normal(size=(rank, channels))
    found = planted.compare(tokens.astype(np.float32)).features
    tokens = found.layers[0] - np.asarray(found.layers[0]).mean()  # as they were: of that rank
    return dataclasses.replace(found, layers=[jnp.asarray(tokens)], keys=[bytes(rng.bytes(16)) for _ in range(n)])


@pytest.mark.parametrize("kernel", ["reuse", "direct"])
def test_tokens_of_fewer_directions_lose_nothing(kernel):
    given = features(rank=30)
    (layer,) = in_subspaces(given, 0.9999, in_memory)
    assert layer.shape == (20, 64, 32)
    options = TileOptions(kernel, (1, 3), GRID, "float32")
    want, got = (pairwise_distances(x, options, np.arange(20)) for x in (given.layers[0], layer))
    np.testing.assert_allclose(got**2, want**2, atol=2e-3)


def test_the_share_is_held_with_the_fewest_channels():
    given = features(rank=96)
    total = float((given.layers[0] ** 2).sum())
    found = [in_subspaces(given, variance, in_memory)[0] for variance in (0.5, 0.9, 0.99)]
    channels = [layer.shape[2] for layer in found]
    assert channels == sorted(channels) and channels[0] < 96 and all(c % 32 == 0 for c in channels)
    for variance, layer in zip((0.5, 0.9, 0.99), found):
        # of a sample, and of so few images nearly of all
        assert float((layer**2).sum()) >= (variance - 0.01) * total
    everything = in_subspaces(given, 1.0, in_memory)[0]
    assert everything is given.layers[0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_layers_on_the_host_and_on_a_device_become_the_same(dtype):
    given = features(rank=40)
    given = dataclasses.replace(given, layers=[given.layers[0].astype(dtype)])
    on_device = DeviceLayers(20, jax.devices()[0])
    on_device.keep(np.arange(20), given.layers)
    want = np.asarray(in_subspaces(given, 0.95, in_memory)[0])
    for layer in (np.asarray(given.layers[0]), on_device.joined(np.arange(20))[0]):
        got = np.asarray(in_subspaces(dataclasses.replace(given, layers=[layer]), 0.95, in_memory)[0])
        assert got.dtype == want.dtype and got.shape[2] < 96
        np.testing.assert_array_equal(got, want)


@pytest.fixture
def tiny_channels(monkeypatch):
    """A network of so few channels that a subspace has fewer than the usual step."""
    monkeypatch.setitem(PRESETS, "tiny", TINY["dinov2"])
    monkeypatch.setattr(subspace, "STEP", 2)


def tiny(**changes):
    backbone = BackboneConfig(name="tiny", image_size=20, weights=str(GOLDEN / "dinov2.safetensors"))
    similarity = dataclasses.replace(Config().similarity, variance=0.98)
    config = Config(backbone=backbone, similarity=similarity, parallel=ParallelConfig(devices=1))
    return dataclasses.replace(config, **changes)


@pytest.mark.usefixtures("tiny_channels")
def test_detections_by_every_route():
    """Host, device, two devices; in another order; and next to the scores of all channels."""
    images, order = list(draw_set(n=10, size=64, seed=0, one_off=0.2, recurring=(0.3,)).images), np.arange(10)[::-1]
    detector = CoDeGraph(tiny())
    comparison = detector.compare(images)
    assert comparison.tokens[0].shape[2] < comparison.features.layers[0].shape[2]
    want = detector.judge(comparison)
    others = [
        CoDeGraph(tiny(storage=StorageConfig(tables="device"))).detect(images),
        CoDeGraph(tiny(parallel=ParallelConfig(devices=2))).detect(images),
    ]
    for got in others:
        np.testing.assert_allclose(got.patch_scores, want.patch_scores, atol=5e-6)
    backwards = detector.detect([images[i] for i in order])
    np.testing.assert_allclose(backwards.patch_scores, want.patch_scores[order], atol=5e-6)
    whole = CoDeGraph(tiny(similarity=Config().similarity)).detect(images)
    assert 1e-4 < np.abs(whole.patch_scores - want.patch_scores).max() < 0.1


@pytest.mark.usefixtures("tiny_channels")
def test_a_bank_is_refused_before_any_work():
    images = list(draw_set(n=6, size=64, seed=0).images)
    with pytest.raises(ConfigError, match=r"config.similarity.variance"):
        CoDeGraph(tiny(bank=BankConfig(save="bank"))).compare(images)
    with pytest.raises(ConfigError, match=r"config.similarity.variance"):
        CoDeGraph(tiny()).detect(images, bank_references=3)


def test_patches_leave_the_references_in_the_same_channels():
    given = features(n=24, rank=60)
    compared = in_subspaces(given, 0.9, in_memory)
    options, references = TileOptions("direct", (1,), GRID, "float32"), np.arange(24)
    tables = [pairwise_distances(compared[0], options, references)]
    removed = np.zeros((24, 64), bool)
    removed[:4, planted.REGION] = True
    beside = Comparison(given, tables, references, options, compared=compared)
    alone = Comparison(dataclasses.replace(given, layers=compared), tables, references, options)
    taken_out = dataclasses.replace(Filter.nothing(beside), removed=removed)
    panel = Panel.of(beside, 0.3)
    scores = panel_scores(beside, panel)
    want = filtered_scores(alone, panel, scores, taken_out)
    np.testing.assert_array_equal(filtered_scores(beside, panel, scores, taken_out), want)
    assert (want != mean_over_layers(scores)).any()
