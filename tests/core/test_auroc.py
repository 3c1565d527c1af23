"""The area under the ROC curve: equal to its definition, with ties as one half, and for several sets at once."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from codegraph_jax.core.auroc import auroc


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_auroc_equals_scikit_learn_with_ties(decimals):
    rng = np.random.default_rng(decimals)
    negative, positive = rng.normal(size=(3, 30)).round(decimals), rng.normal(0.7, 1.0, (3, 11)).round(decimals)
    labels = np.repeat([0, 1], [30, 11])
    want = [roc_auc_score(labels, np.concatenate(pair)) for pair in zip(negative, positive)]
    np.testing.assert_allclose(auroc(negative, positive), want, rtol=1e-12)
    assert auroc(negative[0], positive[0]) == pytest.approx(want[0], rel=1e-12)
    assert auroc(np.zeros(2), np.ones(3)) == 1 and auroc(np.zeros(2), np.zeros(3)) == 0.5
