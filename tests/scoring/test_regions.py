"""Masks of flagged photos: every peak has a region, without the surroundings of the peak."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from codegraph_jax.data.frame import Frame
from codegraph_jax.data.placement import Placement
from codegraph_jax.data.roi import everything
from codegraph_jax.scoring.normal_scores import fit_scores
from codegraph_jax.scoring.regions import background_of, flagged_mask, only_short_regions, rectangle_sides
from codegraph_jax.scoring.threshold import Calibration

SIDE = 10
"""Pixels per patch."""
BACKGROUND, THRESHOLD, FLOOR = 0.1, 0.3, 0.2
SCORES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=st.floats(0, 2, width=32, allow_subnormal=False),
)


def flat(rows=20, columns=30):
    return np.full((rows, columns), BACKGROUND, np.float32)


def levels(threshold, floor):
    return SimpleNamespace(threshold=threshold, score_of_1_in_2=floor)


def regions_of(scores, inspected=None):
    if inspected is None:
        inspected = everything(scores.shape[1] * SIDE, scores.shape[0] * SIDE)
    return flagged_mask(scores, BACKGROUND, levels(THRESHOLD, FLOOR), inspected)


def patches(top, bottom, left, right, shape=(20, 30)):
    mask = np.zeros((shape[0] * SIDE, shape[1] * SIDE), bool)
    mask[top * SIDE : bottom * SIDE, left * SIDE : right * SIDE] = True
    return mask


def overlap(first, second):
    return (first & second).sum() / (first | second).sum()


def count(mask):
    return ndimage.label(mask, np.ones((3, 3)))[1]


@pytest.mark.parametrize("halo", [0.2, 0.32, 0.4])
def test_the_halo_of_a_small_defect_belongs_to_no_region(halo):
    scores = flat()
    scores[2:18, 2:25] = halo + np.random.default_rng(0).uniform(0, 0.03, (16, 23))
    scores[8:10, 10:12] = 0.9
    mask = regions_of(scores)
    assert count(mask) == 1 and mask[90, 110]
    assert not (mask & ~patches(7, 11, 9, 13)).any() and mask.sum() >= 0.4 * (2 * SIDE) ** 2


def test_a_large_defect_with_a_hot_spot_is_covered_as_a_whole():
    scores = flat()
    scores[4:14, 5:20] = np.random.default_rng(0).uniform(0.4, 0.5, (10, 15))
    scores[6, 8] = 0.7
    assert overlap(regions_of(scores), patches(4, 14, 5, 20)) > 0.8


def test_a_plateau_is_one_region_with_its_own_border():
    scores = flat()
    scores[5:12, 5:12] = 0.8
    mask = regions_of(scores)
    assert count(mask) == 1 and overlap(mask, patches(5, 12, 5, 12)) > 0.85


def test_two_defects_near_each_other_have_a_region_each():
    scores = flat()
    scores[8:10, 8:10], scores[8:10, 13:15] = 0.9, 0.6
    mask = regions_of(scores)
    assert count(mask) == 2 and mask[90, 90] and mask[90, 140]
    assert not (mask & ~patches(7, 11, 7, 11) & ~patches(7, 11, 12, 16)).any()


def test_a_defect_on_the_edge_reaches_the_edge():
    scores = flat()
    scores[:3, :2] = 0.8
    mask = regions_of(scores)
    assert mask[0, 0] and overlap(mask, patches(0, 3, 0, 2)) > 0.7


def test_a_peak_below_the_threshold_has_no_region_beside_one_above_it():
    scores = flat()
    scores[4, 4], scores[15, 20] = 0.9, 0.25
    mask = regions_of(scores)
    assert mask[45, 45] and not mask[100:].any()


def test_a_map_without_any_peak_is_flagged_as_a_whole():
    scores = np.full((6, 6), 0.5, np.float32)
    assert flagged_mask(scores, 0.5, levels(0.4, 0.3), everything(60, 60)).all()


def test_regions_stay_within_the_inspected_area():
    scores = flat()
    scores[:, :10] = 0
    scores[8:11, 10:13] = 0.8
    inspected = np.ones((200, 300), bool)
    inspected[:, :104] = False
    mask = regions_of(scores, inspected=inspected)
    assert mask.any() and not (mask & ~inspected).any()
    assert overlap(mask, patches(8, 11, 10, 13) & inspected) > 0.6


def test_a_region_of_which_little_is_inspected_is_kept():
    scores = flat()
    scores[8, 12] = 0.9
    inspected = patches(8, 9, 12, 13)
    inspected[82:] = False
    mask = regions_of(scores, inspected=inspected)
    assert mask.any() and not (mask & ~inspected).any()


@settings(max_examples=80, deadline=None)
@given(SCORES, st.floats(0, 2), st.floats(0, 2), st.tuples(st.integers(1, 60), st.integers(1, 60)))
def test_every_flagged_photo_has_a_region(scores, threshold, floor, size):
    mask = flagged_mask(scores, float(np.median(scores)), levels(threshold, floor), everything(*size))
    assert mask.shape == size[::-1] and mask.any()


@settings(max_examples=30, deadline=None)
@given(SCORES, st.floats(0, 2), st.floats(0.25, 4))
def test_regions_do_not_depend_on_the_unit_of_the_scores(scores, threshold, unit):
    unit = 2.0 ** round(np.log2(unit))  # exact in floating point
    scores, whole = np.maximum(scores, np.float32(0.01)), everything(scores.shape[1] * 5, scores.shape[0] * 5)
    first = flagged_mask(scores, float(np.median(scores)), levels(threshold, 0.1), whole)
    background = float(np.median(scores)) * unit
    second = flagged_mask(scores * np.float32(unit), background, levels(threshold * unit, 0.1 * unit), whole)
    np.testing.assert_array_equal(first, second)


def test_a_region_ends_at_the_floor():
    scores = flat()
    scores[8:12, 8:12], scores[6:14, 12:20] = 0.4, 0.18
    assert not (regions_of(scores) & ~patches(7, 13, 7, 13)).any()


FLAGGED = np.array([True, True, False])


def calibration_of(smallest, threshold=THRESHOLD):
    normal = fit_scores(np.random.default_rng(0).normal(BACKGROUND, 0.02, 40)).normal_scores
    return Calibration(
        threshold,
        FLOOR,
        "score",
        0.01,
        40,
        40,
        normal,
        min_defect_length=smallest,
    )


def test_only_photos_with_short_regions_alone_are_tolerated():
    small, both, good = (flat() for _ in range(3))
    small[5, 5] = both[5, 5] = 0.6
    both[12, 4:25] = 0.7  # about 200 px
    maps, whole = np.stack([small, both, good]), [everything] * 3
    placement = Placement.whole(Frame("pad", (20, 30), SIDE, longest_patches=30), np.array([[300, 200]] * 3))
    assert only_short_regions(maps, FLAGGED, placement, calibration_of(0.0), whole).tolist() == [False] * 3, "no limit"
    assert only_short_regions(maps, FLAGGED, placement, calibration_of(60.0), whole).tolist() == [True, False, False]
    assert only_short_regions(maps, FLAGGED, placement, calibration_of(400.0), whole).tolist() == [True, True, False]
    length = rectangle_sides(regions_of(small))[0]
    for times, passes in ((1, True), (2, False)):
        larger = replace(placement, sizes=times * placement.sizes)
        found = only_short_regions(maps, FLAGGED, larger, calibration_of(1.5 * length), whole)
        assert found[0] == passes, "lengths are in pixels of the photo, not of the network's input"


def test_only_the_inspected_part_of_a_region_counts_for_its_length():
    scores = flat()
    scores[12, 4:25] = 0.7  # about 200 px
    placement = Placement.whole(Frame("pad", (20, 30), SIDE, longest_patches=30), np.array([[300, 200]] * 3))
    calibration, maps = calibration_of(100.0), np.stack([scores] * 3)

    def left_end(width, height):
        return np.broadcast_to(np.arange(width) < 80, (height, width))

    assert not only_short_regions(maps, FLAGGED, placement, calibration, [everything] * 3).any()
    assert only_short_regions(maps, FLAGGED, placement, calibration, [left_end] * 3).tolist() == [True, True, False]


@given(SCORES, st.floats(0, 300))
@settings(max_examples=30, deadline=None)
def test_a_photo_is_tolerated_if_its_longest_region_is_shorter_than_the_limit(scores, limit):
    rows, columns = scores.shape
    placement = Placement.whole(
        Frame("pad", (rows, columns), SIDE, longest_patches=max(rows, columns)),
        np.array([[columns * SIDE, rows * SIDE]]),
    )
    calibration = calibration_of(limit)
    whole = everything(columns * SIDE, rows * SIDE)
    mask = flagged_mask(scores, background_of(scores[None], placement, 0), calibration, whole)
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    longest = max(rectangle_sides(labels == number)[0] for number in range(1, count + 1))
    assume(abs(longest - limit) > 1e-6)
    tolerated = only_short_regions(scores[None], np.ones(1, bool), placement, calibration, [everything])
    assert tolerated.tolist() == [bool(limit) and longest < limit]
