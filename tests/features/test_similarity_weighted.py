"""Similarity-weighted aggregation (MuSc-V2): its definition, its limits, and a detection with it."""

from dataclasses import replace

import numpy as np
import pytest

from codegraph_jax import CoDeGraph
from codegraph_jax.config import BankConfig, Config, FeatureConfig
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.features.aggregation import similarity_weighted
from codegraph_jax.features.memory import plan_run
from tests.support.tiny_backbones import tiny_backbone

GRID = (4, 5)


def defined(tokens: np.ndarray, degrees: tuple[int, ...]) -> np.ndarray:
    """[h, w, c] -> [h, w, c], patch by patch."""
    h, w, _ = tokens.shape
    inside = (tokens != 0).any(axis=-1)
    steps = [
        np.linalg.norm(tokens[y, x] - tokens[y + dy, x + dx])
        for y in range(h)
        for x in range(w)
        for dy, dx in ((0, 1), (1, 0))
        if y + dy < h and x + dx < w and inside[y, x] and inside[y + dy, x + dx]
    ]
    scale, out = np.mean(steps), np.zeros_like(tokens)
    for y, x in zip(*np.nonzero(inside)):
        for degree in degrees:
            near = [
                (b, a)
                for b in range(max(0, y - degree // 2), min(h, y + degree // 2 + 1))
                for a in range(max(0, x - degree // 2), min(w, x + degree // 2 + 1))
                if inside[b, a]
            ]
            weights = [np.exp(-np.linalg.norm(tokens[place] - tokens[y, x]) / scale) for place in near]
            out[y, x] += sum(weight * tokens[place] for weight, place in zip(weights, near)) / sum(weights)
    return out / len(degrees)


@pytest.mark.parametrize("hidden", [False, True])
def test_similarity_weighting_equals_the_definition(hidden):
    tokens = np.random.default_rng(0).normal(size=(2, *GRID, 6)).astype(np.float32)
    if hidden:
        tokens[1, 1:3, 2:] = 0
    found = np.asarray(similarity_weighted(tokens.reshape(2, 20, 6), (1, 3, 5), GRID)).reshape(tokens.shape)
    for own, wanted in zip(found, tokens):
        np.testing.assert_allclose(own, defined(wanted, (1, 3, 5)), atol=1e-5)
    assert not hidden or not found[1, 1:3, 2:].any()


def test_degree_one_changes_nothing_and_a_lone_spot_stays_itself():
    tokens = np.ones((1, 20, 3), np.float32) + 0.1 * np.random.default_rng(1).normal(size=(1, 20, 3)).astype(np.float32)
    np.testing.assert_allclose(similarity_weighted(tokens, (1,), GRID), tokens, atol=1e-6)
    tokens[0, 7] += 5
    spot = np.asarray(similarity_weighted(tokens, (3,), GRID))[0, 7]
    plain = tokens[0].reshape(*GRID, 3)[0:3, 1:4].mean(axis=(0, 1))
    assert np.linalg.norm(spot - tokens[0, 7]) < 0.5 * np.linalg.norm(plain - tokens[0, 7])


@pytest.mark.usefixtures("tiny_presets")
def test_similarity_aggregation_is_used_in_detection_and_refused_for_banks():
    backbone = tiny_backbone()
    config = Config(backbone=backbone, features=FeatureConfig(aggregation="similarity"))
    images = list(draw_set(6, 32, 0, 0.3, ()).images)
    detector, plain = CoDeGraph(config), CoDeGraph(Config(backbone=backbone))
    comparison = detector.compare(images)
    assert comparison.options.degrees == (1,)
    tokens = plain.compare(images).features.layers[0]
    own = np.asarray(similarity_weighted(np.asarray(tokens), (1, 3, 5), (5, 5)))
    np.testing.assert_allclose(np.asarray(comparison.features.layers[0][:]), own, atol=1e-5)
    result = detector.score(comparison)
    assert np.isfinite(result.scores_rescored).all() and result.feature_identity["aggregation"] == "similarity"
    assert "aggregation" not in plain.feature_identity
    plans = [plan_run(one.config, one.backbone, 100, one.extractor.frame) for one in (detector, plain)]
    assert 3 * plans[0].table_bytes == plans[1].table_bytes, "one feature instead of three degrees"
    with pytest.raises(ConfigError, match=r"config.features.aggregation: a bank compares plain means"):
        CoDeGraph(replace(config, bank=BankConfig(save="x.safetensors")))
