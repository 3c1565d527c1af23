import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from codegraph_jax.config import ThresholdConfig
from codegraph_jax.scoring.threshold import calibrate, fit_normal_scores

SETS = 25


def normal_scores(rng: np.random.Generator, n: int) -> np.ndarray:
    """Maxima of 200 patch scores, as a detector makes them: near Gumbel's law, not of it."""
    return 0.12 + 0.02 * rng.gamma(3.0, 1.0, (n, 200)).max(axis=1)


def anomalous_scores(rng: np.random.Generator, n: int) -> np.ndarray:
    return 0.45 + 0.3 * rng.beta(1.5, 3.0, n)


@pytest.mark.parametrize("n", [20, 40, 120])
def test_all_normal_sets_keep_the_false_alarm_rate(n):
    rng = np.random.default_rng(0)
    rates = [calibrate(normal_scores(rng, n), ThresholdConfig()).flagged.mean() for _ in range(SETS)]
    assert np.mean(rates) < 0.02, "asked for 1 %"


@pytest.mark.parametrize("share", [0.05, 0.2, 0.45, 0.6, 0.75])
def test_contaminated_sets_keep_the_rate_and_find_the_anomalies(share):
    rng = np.random.default_rng(1)
    alarms, found = [], []
    for _ in range(SETS):
        bad = int(100 * share)
        scores = np.concatenate([normal_scores(rng, 100 - bad), anomalous_scores(rng, bad)])
        flagged = calibrate(scores, ThresholdConfig()).flagged
        alarms.append(flagged[: 100 - bad].mean())
        found.append(flagged[100 - bad :].mean())
    assert np.mean(alarms) < 0.03
    assert np.mean(found) > 0.95


def test_the_rate_that_is_asked_for_is_the_rate_that_comes():
    rng = np.random.default_rng(2)
    scores = stats.gumbel_r.rvs(0.3, 0.02, 4000, random_state=rng)
    for rate in (0.2, 0.05, 0.01):
        found = calibrate(scores, ThresholdConfig(false_alarm_rate=rate))
        assert found.expected_rate == pytest.approx(rate)
        assert found.flagged.mean() == pytest.approx(rate, rel=0.3)


def test_p_values_of_normal_images_are_uniform():
    rng = np.random.default_rng(3)
    scores = np.concatenate([stats.gumbel_r.rvs(0.3, 0.02, 700, random_state=rng), rng.uniform(0.6, 0.9, 300)])
    found = calibrate(scores, ThresholdConfig())
    assert found.rule == "mixture" and found.law.share == pytest.approx(0.7, abs=0.02)
    assert stats.kstest(found.p_values[:700], "uniform").statistic < 0.06
    assert found.p_values[700:].max() < 1e-4


def test_a_set_without_two_parts_is_not_torn_apart():
    rng = np.random.default_rng(4)
    rules = set()
    for draw in (stats.norm, stats.uniform, stats.gumbel_r, stats.logistic):
        for n in (30, 150):
            scores = 0.5 + 0.02 * draw.rvs(size=n, random_state=rng)
            found = calibrate(scores, ThresholdConfig())
            rules.add(found.rule)
            assert found.flagged.mean() <= 0.07, (draw.name, n)
    assert rules == {"single law"}


@given(st.integers(2, 60), st.floats(1e-3, 1.9), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_any_set_gets_finite_thresholds_and_p_values(n, spread, seed):
    rng = np.random.default_rng(seed)
    scores = rng.choice([0.05, 0.1, 1.0], n) + spread * rng.random(n).round(rng.integers(0, 4))
    scores = scores.astype(np.float32).astype(np.float64)
    found = calibrate(scores, ThresholdConfig())
    assert np.isfinite(found.threshold) and found.patch_threshold <= found.threshold
    assert ((found.p_values >= 0) & (found.p_values <= 1)).all()
    assert (found.flagged == (scores >= found.threshold)).all()
    assert (np.diff(found.p_values[np.argsort(scores)]) <= 1e-12).all()


def test_equal_scores_flag_nothing():
    for n in (2, 30):
        assert not calibrate(np.full(n, 0.4), ThresholdConfig()).flagged.any()


def test_scale_and_order_of_the_scores_do_not_matter():
    rng = np.random.default_rng(5)
    scores = np.concatenate([normal_scores(rng, 60), anomalous_scores(rng, 30)])
    law, rule = fit_normal_scores(scores)
    other, other_rule = fit_normal_scores(3.0 * scores[::-1])
    assert rule == other_rule
    np.testing.assert_allclose([other.location, other.scale], [3 * law.location, 3 * law.scale], rtol=1e-3)


def test_a_given_threshold_overrides():
    scores = np.linspace(0.1, 0.5, 41)
    found = calibrate(scores, ThresholdConfig(value=0.4))
    assert found.rule == "given" and found.threshold == 0.4
    assert (found.flagged == (scores >= 0.4)).all()
    assert found.expected_rate == pytest.approx(float(found.law.p_values(np.array([0.4]))[0]))


@pytest.mark.parametrize(("share", "count"), [(0.1, 4), (1.0, 40), (0.001, 0)])
def test_a_given_share_overrides(share, count):
    scores = np.random.default_rng(6).random(40)
    found = calibrate(scores, ThresholdConfig(share=share))
    assert found.rule == "share" and found.flagged.sum() == count
    assert set(np.flatnonzero(found.flagged)) == set(np.argsort(-scores)[:count])
