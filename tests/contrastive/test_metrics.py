"""Metrics of out-of-distribution detection: equal to scikit-learn's, by hand, and coverage of their intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from contrastive_jax.evaluation.metrics import METRICS, detection_metrics


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 40), st.integers(1, 12))
def test_values_equal_scikit_learn(seed, normals, anomalies, levels):
    """Also where many scores are equal."""
    rng = np.random.default_rng(seed)
    normal = rng.permutation(np.arange(normals + anomalies) < normals)
    scores = rng.integers(0, levels, len(normal)) / levels
    found = detection_metrics(normal, scores, draws=2)
    fpr, tpr, _ = roc_curve(normal, scores, drop_intermediate=False)
    expected = {
        "auroc": roc_auc_score(normal, scores),
        "aupr_in": average_precision_score(normal, scores),
        "aupr_out": average_precision_score(~normal, -scores),
        "fpr95": fpr[np.argmax(tpr >= 0.95 - 1e-12)],
    }
    for name in METRICS:
        assert found[name].value == pytest.approx(expected[name], abs=1e-9), name


def test_values_equal_a_calculation_by_hand():
    normal = np.array([True, True, False, True, False])
    found = detection_metrics(normal, np.array([5.0, 4.0, 3.0, 2.0, 1.0]), draws=2)
    assert found["auroc"].value == pytest.approx(5 / 6)
    assert found["aupr_in"].value == pytest.approx((1 + 1 + 3 / 4) / 3)
    assert found["aupr_out"].value == pytest.approx((1 + 2 / 3) / 2)
    assert found["fpr95"].value == pytest.approx(0.5), "all three normal ones pass only with one of two anomalies"


def test_perfect_scores_leave_no_room():
    normal = np.arange(40) < 20
    for metric, interval in detection_metrics(normal, np.where(normal, 1.0, 0.0)).items():
        assert interval == ((0.0,) * 3 if metric == "fpr95" else (1.0,) * 3)


def test_undefined_metrics_are_none():
    assert detection_metrics(np.ones(3, bool), np.arange(3.0)) is None
    assert detection_metrics(np.zeros(3, bool), np.arange(3.0)) is None
    assert detection_metrics(np.array([True, False]), np.array([np.nan, 1.0])) is None


def test_intervals_have_their_nominal_coverage():
    """AUROC of two normal laws one deviation apart is 0.7602."""
    rng, held, sets = np.random.default_rng(0), 0, 200
    normal = np.arange(160) < 80
    for seed in range(sets):
        interval = detection_metrics(normal, rng.normal(size=160) + normal, seed, draws=200)["auroc"]
        held += interval.low <= 0.7602 <= interval.high
    assert 0.9 <= held / sets <= 0.985


def test_draws_follow_from_the_seed_and_more_images_narrow_them():
    rng = np.random.default_rng(1)
    normal = np.arange(2000) < 1000
    scores = rng.normal(size=2000) + normal
    assert detection_metrics(normal, scores, seed=3) == detection_metrics(normal, scores, seed=3)
    some = np.arange(0, 2000, 20)
    for metric in METRICS:
        wide, narrow = (detection_metrics(*pair)[metric] for pair in ((normal[some], scores[some]), (normal, scores)))
        assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
