"""Two results compared in memory: matching of photos, and changes by labels."""

from dataclasses import replace

import numpy as np
import pytest

from codegraph_jax import CoDeGraph, compare_results
from codegraph_jax.config import Config
from codegraph_jax.data.samples import Sample
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.evaluation.changes import ResultChanges, RunError
from codegraph_jax.result import DetectionResult
from tests.support.networks import random_backbone

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module")
def result(shallow) -> DetectionResult:
    drawn = draw_set(12, 56, 1, 0.3, ())
    samples = [
        Sample.of(image, f"{i}", label=int(label)) for i, (image, label) in enumerate(zip(drawn.images, drawn.labels))
    ]
    return CoDeGraph(Config(backbone=random_backbone(image_size=28, blocks=(1,)))).detect(samples)


def scored(result, scores) -> DetectionResult:
    return replace(result, scores=np.asarray(scores, float), scores_rescored=np.asarray(scores, float))


def test_photos_are_matched_by_name_in_any_order(result):
    order = np.arange(12)[::-1]
    other = replace(
        scored(result, result.scores[order]),
        samples=tuple(result.samples[i] for i in order),
        flagged=result.flagged[order], p_values=result.p_values[order],
        keys=tuple(result.keys[i] for i in order), scores_by_name={},
    )  # fmt: skip
    changes = compare_results(result, other)
    assert len(changes.photos) == 12 and not changes.most_moved and not changes.newly_flagged
    assert changes.correlation() == pytest.approx(1)


def test_equal_names_in_several_folders_do_not_hide_photos(result):
    twice = replace(
        result, samples=tuple(replace(s, name="0.png", path=f"{i}/0.png") for i, s in enumerate(result.samples))
    )
    assert [photo.name for photo in compare_results(twice, twice).photos] == [f"{i}/0.png" for i in range(12)]
    unknown = replace(result, samples=())
    assert [photo.name for photo in compare_results(unknown, unknown).photos] == [f"image {i}" for i in range(12)]
    with pytest.raises(RunError, match="the first result and the second result have no photo in common"):
        compare_results(twice, unknown)


def test_labels_show_which_result_is_better(result):
    labels = np.array([sample.label for sample in result.samples])
    assert 0 < labels.sum() < 12
    good, bad = scored(result, labels + np.linspace(0, 0.1, 12)), scored(result, -labels - np.linspace(0, 0.1, 12))
    assert compare_results(bad, good).auroc_gain.low > 0 and compare_results(good, bad).auroc_gain.high < 0
    changes = compare_results(good, good)
    assert changes.auroc_gain == (0, 0, 0) and not changes.auroc_gain.significant
    assert changes.metrics[""]["image_auroc"] == (1.0, 1.0)
    assert "not significant" in str(changes)
    unlabelled = replace(good, samples=tuple(replace(s, label=None) for s in good.samples))
    changes = compare_results(unlabelled, unlabelled)
    assert changes.auroc_gain is None and not changes.metrics


def test_equal_scores_have_no_correlation(result):
    changes: ResultChanges = compare_results(scored(result, np.ones(12)), result)
    assert changes.correlation() is None and " - " in str(changes)


def test_settings_of_the_feature_identity_that_differ_are_listed(result):
    other = replace(result, feature_identity={**result.feature_identity, "weights": "others"})
    assert compare_results(result, other).settings == {"weights": (result.feature_identity["weights"], "others")}


def test_an_image_that_was_given_twice_is_compared_twice(result):
    twice = replace(result, samples=(result.samples[1], *result.samples[1:]))
    assert [photo.name for photo in compare_results(twice, result).photos] == [f"{i}" for i in range(1, 12)]
    assert [photo.name for photo in compare_results(twice, twice).photos][:2] == ["1", "1 (2)"]
