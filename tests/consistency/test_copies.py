"""Images that occur more than once count once."""

import dataclasses

import networkx as nx
import numpy as np
import pytest

from codegraph_jax.config import BankConfig, RecurringConfig, SimilarityConfig
from codegraph_jax.consistency.copies import patterns_with_copies
from codegraph_jax.consistency.groups import Group, PatchBox, RecurringPatterns
from codegraph_jax.core.settings import ConfigError
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.detector import CoDeGraph, TooFewImagesError
from tests.support.networks import random_config

pytestmark = pytest.mark.usefixtures("shallow")


def detector(**fields):
    return CoDeGraph(random_config(**fields))


@pytest.fixture(scope="module")
def photos():
    return list(draw_set(13, 56, 3, 0.0, ()).images)


def test_copies_get_the_groups_of_their_originals():
    graph = nx.Graph()
    graph.add_edge(0, 2, weight=3.0, links=[(0, 7, 2)])
    group = Group((2, 0), 3.0, 0.01, (PatchBox(0, 0.0, 0.0, 0.5, 0.5),), "defect")
    found = RecurringPatterns(
        (group,), duplicates=((1, 2),), views=((0, 1),), graph=graph, pattern_numbers=np.arange(3)[:, None, None]
    )
    all_of_them = patterns_with_copies(found, np.array([0, 1, 0, 2, 0]))
    assert all_of_them.groups[0].members == (3, 0, 2, 4)
    assert [box.image for box in all_of_them.groups[0].boxes] == [0, 2, 4]
    assert all_of_them.duplicates == ((0, 2, 4), (1, 3))
    assert all_of_them.views == ((0, 1, 2, 4),)
    assert dict(all_of_them.graph.edges[0, 3]) == {"weight": 3.0, "links": [(0, 7, 3)]}
    assert all_of_them.pattern_numbers[:, 0, 0].tolist() == [0, 1, 0, 2, 0]


@pytest.mark.parametrize("count", [2, 7])
def test_copies_change_no_score_and_share_their_originals_score(photos, count):
    once = detector().detect(photos)
    listed = [photos[4], *photos[:4], *photos[5:], *[photos[4].copy() for _ in range(count - 1)]]
    many = detector().detect(listed)
    order = [4, 0, 1, 2, 3, *range(5, 13), *[4] * (count - 1)]
    assert many.kept.tolist() == list(range(len(listed)))
    # the order of images changes the rounding of sums; their number does not
    np.testing.assert_allclose(many.scores, once.scores[order], rtol=1e-5)
    np.testing.assert_allclose(many.p_values, once.p_values[order], rtol=1e-2)
    np.testing.assert_array_equal(many.flagged, once.flagged[order])
    assert many.calibration.image_count == 13
    for name in ("patch_scores", "scores", "scores_rescored"):
        values = getattr(many, name)
        np.testing.assert_array_equal(values[13:], np.stack([values[0]] * (count - 1)))
    assert (0, *range(13, 12 + count)) in many.recurring.duplicates


def test_seven_copies_of_one_bad_photo_do_not_make_good_parts_anomalous(photos):
    bad = photos[0].copy()
    bad[10:40, 10:40] = 255 - bad[10:40, 10:40]
    result = detector(recurring=RecurringConfig(defects="off")).detect([*photos[1:], *[bad] * 7])
    assert not result.flagged[:12].any()
    assert (result.p_values > 0).all()
    assert result.scores[12:].min() == result.scores.max()


def test_an_added_copy_of_an_image_of_the_set_is_still_added(photos):
    result = detector().detect(photos[:8], added=[photos[2], photos[9], photos[9]])
    assert result.added_count == 3 and result.kept.tolist() == list(range(11))
    assert result.scores[8] == result.scores[2] and result.scores[9] == result.scores[10]


def test_copies_of_one_image_have_each_other(photos):
    result = detector().detect([photos[0]] * 3)
    assert result.scores.max() < 2e-3 and not result.flagged.any()
    with pytest.raises(TooFewImagesError, match="1 of 2 images can be read"):
        detector().detect([photos[0], "absent.png"])


def test_a_single_reference_is_refused(photos):
    with pytest.raises(ConfigError, match="SimilarityConfig.references: 1 is below 2; give 2 or more, or auto or all"):
        detector(similarity=SimilarityConfig(references=1)).detect(photos[:4])
    with pytest.raises(ConfigError, match="BankConfig.photo_count: 1 is below 2; give 2 or more"):
        detector().detect(photos[:4], bank=BankConfig(kind="exact", photo_count=1))


def test_results_do_not_depend_on_the_place_in_the_listing(photos):
    config = dataclasses.replace(detector().config, similarity=SimilarityConfig(references=5))
    straight = CoDeGraph(config).detect(photos)
    backward = CoDeGraph(config).detect(photos[::-1])
    np.testing.assert_allclose(backward.scores[::-1], straight.scores, rtol=1e-5)
