"""AUROC pooled and by class, and the table over runs."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegraph_jax.core.errors import UserError
from contrastive_jax.compare import class_names, table
from contrastive_jax.config import DataConfig, OeclConfig
from contrastive_jax.data.protocols import test_set as make_test_set
from contrastive_jax.evaluation.evaluate import auroc, measure
from contrastive_jax.evaluation.scores import SCORES


@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=30))
def test_auroc_is_the_share_of_ordered_pairs(pairs):
    normal, scores = (np.array(column) for column in zip(*pairs))
    if normal.all() or not normal.any():
        assert auroc(normal, scores.astype(float)) is None
        return
    difference = scores[normal][:, None] - scores[~normal]
    expected = ((difference > 0) + 0.5 * (difference == 0)).mean()
    np.testing.assert_allclose(auroc(normal, scores.astype(float)), expected, atol=1e-12)


def test_auroc_of_scores_that_are_not_finite_is_undefined():
    assert auroc(np.array([True, False]), np.array([np.nan, 1.0])) is None


def test_classes_stand_alone_against_the_other_side():
    labels = np.array([0, 0, 1, 1, 2, 2])
    images = np.zeros((6, 1, 1, 3), np.uint8)
    scores = {"clean": np.array([3.0, 2, 1, 0, 5, 4])}
    one = measure(make_test_set("one_vs_rest", images, labels, "a", ("a", "b", "c")), scores)["clean"]
    assert one == {"pooled": 0.5, "class_mean": 0.5, "per_class": {"b": 1.0, "c": 0.0}}
    rest = measure(make_test_set("leave_one_class_out", images, labels, "a", ("a", "b", "c")), scores)["clean"]
    assert rest == {"pooled": 0.5, "class_mean": 0.5, "per_class": {"b": 0.0, "c": 1.0}}


def test_table_of_runs(tmp_path):
    for seed, shift in ((0, 0.0), (1, 0.02)):
        for target, value in (("0", 0.6), ("3", 0.8)):
            home = tmp_path / f"oecl_{target}_{seed}"
            home.mkdir()
            results = {"auroc": {name: {"pooled": value + shift} for name in SCORES}}
            if seed == 0:
                results["metrics"] = {name: {"fpr95": {"value": value / 2}} for name in SCORES}
            (home / "results.json").write_text(json.dumps(results))
    rows = table(tmp_path, ["oecl", "simclr"], ["0", "3"], [0, 1])
    assert rows[0] == ("mode, score", "class 0", "class 3", "mean", "sd of seeds")
    assert rows[1] == ("oecl, mean_feature", "61.0", "81.0", "71.0", "1.4")
    assert rows[4][1:] == ("nan", "nan", "nan", "nan")
    assert table(tmp_path, ["oecl"], ["0", "3"], [0], "fpr95")[1] == ("oecl, mean_feature", "30.0", "40.0", "35.0", "-")
    with pytest.raises(UserError, match="was written by an earlier version"):
        table(tmp_path, ["oecl"], ["0", "3"], [1], "fpr95")


def test_all_classes_are_those_of_the_training_set():
    config = OeclConfig(data=DataConfig(train="patterns", stored_size=8))
    names = class_names(config)
    assert "disc" in names and len(names) == len(set(names)) > 4
