"""Metrics over all images and by class."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegraph_jax.core.settings import ConfigError
from contrastive_jax.config import OeclConfig, OeclDataConfig
from contrastive_jax.data.image_set import ImageSet
from contrastive_jax.data.protocols import evaluation_set, ood_evaluation_set
from contrastive_jax.evaluation.evaluate import auroc, evaluation_metrics
from studies.sweeps.training import class_names


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
    images = ImageSet(np.zeros((6, 1, 1, 3), np.uint8), np.array([0, 0, 1, 1, 2, 2], np.int32), ("a", "b", "c"))
    scores = {"clean": np.array([3.0, 2, 1, 0, 5, 4])}

    def areas(protocol):
        by_class = evaluation_metrics(evaluation_set(images, protocol, "a"), scores)["by_class"]
        return {name: found["clean"]["auroc"]["value"] for name, found in by_class.items()}

    assert areas("one_vs_rest") == {"b": 1.0, "c": 0.0}
    assert areas("leave_one_class_out") == {"b": 0.0, "c": 1.0}


def test_all_classes_are_those_of_the_training_set():
    config = OeclConfig(data=OeclDataConfig(train="patterns", stored_size=8, image_size=8))
    names = class_names(config)
    assert "disc" in names and len(names) == len(set(names)) > 4
    few = dataclasses.replace(config, data=dataclasses.replace(config.data, classes=("ring", "0")))
    assert class_names(few) == ["ring", "disc"]


def test_each_named_set_is_measured_alone():
    data = ood_evaluation_set(
        np.zeros((2, 1, 1, 3), np.uint8),
        {"near": np.zeros((2, 1, 1, 3), np.uint8), "far": np.zeros((1, 1, 1, 3), np.uint8)},
    )
    found = evaluation_metrics(data, {"clean": np.array([3.0, 2.0, 2.5, 0.0, 1.0])})["by_class"]
    assert found["near"]["clean"]["auroc"]["value"] == 0.75
    assert found["far"]["clean"]["auroc"] == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_an_empty_test_set_is_refused():
    with pytest.raises(ConfigError, match=r"config\.data\.test: is empty; give a source, same, or none"):
        OeclConfig(data=OeclDataConfig(test=""))
