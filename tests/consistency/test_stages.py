import tracemalloc

import numpy as np
import pytest

from codegraph_jax.consistency.duplicates import duplicate_pairs
from codegraph_jax.consistency.pattern_patches import find_member_patches, pattern_tests
from codegraph_jax.core import arrays
from codegraph_jax.scoring.distances import as_distances
from tests.support import planted


def shown_patches(distances, references, communities, k):
    distances = as_distances(distances, references)
    tests = pattern_tests(distances, communities, k)
    return find_member_patches(distances, communities, tests, k)


def test_the_recurring_defect_is_found_flagged_boxed_and_scored():
    tokens = planted.draw()
    found, before, after, *_ = planted.find(tokens)
    (group,) = found.groups
    assert group.verdict == "defect"
    assert sorted(group.members) == list(range(10))
    assert group.chance_p_value <= 0.01 and group.mean_links > 1
    flagged = found.defect_patches.reshape(48, -1)
    assert flagged[:10][:, planted.REGION].mean() > 0.9
    assert flagged.sum() <= 45, "few other patches"
    assert {box.image for box in group.boxes} == set(range(10))
    for box in group.boxes[:3]:
        assert (box.top, box.left, box.bottom, box.right) == (2 / 8, 2 / 8, 4 / 8, 4 / 8)

    region = np.ix_(range(10), planted.REGION)
    alone = before[10:15].max(axis=1).mean()
    assert before[region].max(axis=1).mean() < 0.9 * alone, "nine similar images lower its scores"
    assert after[region].max(axis=1).mean() > 0.92 * alone


@pytest.mark.parametrize("images", [1, 5])
def test_results_do_not_depend_on_the_number_of_images_copied_at_once(monkeypatch, images):
    tokens = planted.draw()

    def flagged_and_left():
        found = planted.find(tokens)
        return found.recurring.defect_patches, found.filtered_scores

    want = flagged_and_left()
    assert want[0].any()
    monkeypatch.setattr(arrays, "COPIED_BYTES", images * planted.compare(tokens).tables[0][0, 0].nbytes)
    again = flagged_and_left()
    for got, expected in zip(again, want):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_found_where_nothing_recurs(seed):
    tokens = planted.draw(group=0, one_off=8, seed=seed)
    found = planted.find(tokens).recurring
    assert found.groups == () and found.duplicates == () and found.views == ()
    assert not found.defect_patches.any()


def test_the_order_of_the_images_changes_nothing():
    tokens = planted.draw(seed=4)
    straight = planted.find(tokens).recurring
    order = np.random.default_rng(0).permutation(len(tokens))
    shuffled = planted.find(tokens[order]).recurring
    np.testing.assert_array_equal(shuffled.defect_patches, straight.defect_patches[order])
    assert [tuple(order[list(c.members)]) for c in shuffled.groups] == [c.members for c in straight.groups]
    assert [c.chance_p_value for c in shuffled.groups] == [c.chance_p_value for c in straight.groups]


def test_few_references_still_find_the_group():
    tokens = planted.draw(80, group=24)
    found = planted.find(tokens, references=np.arange(0, 80, 2)).recurring
    assert len(found.groups) == 1
    members = set(found.groups[0].members)
    assert members <= set(range(24)) and len(members) >= 20


def test_photos_of_one_part_are_duplicates_and_no_community():
    tokens = planted.draw(group=0, one_off=0)
    rng = np.random.default_rng(5)
    tokens[1:4] = tokens[0] + 0.05 * rng.normal(size=tokens[1:4].shape)
    found, *_, comparison, exclusions = planted.find(tokens)
    assert found.duplicates == ((0, 1, 2, 3),)
    assert found.groups == ()
    assert exclusions.pairs[0].nonzero()[0].tolist() == [1, 2, 3], "they are no longer references for each other"
    assert np.isfinite(comparison.tables[0][0, 0, 1:]).all(), "the comparison stays as it was"


def test_equal_images_are_duplicates():
    tokens = planted.draw(group=0)
    tokens[7] = tokens[30]
    _, table = planted.table(tokens)
    pairs = duplicate_pairs(as_distances(table[0], np.arange(len(tokens))))
    assert {(int(i), int(j)) for i, j in zip(*np.nonzero(pairs))} == {(7, 30), (30, 7)}


def test_images_with_the_same_view_are_not_a_defect():
    tokens = planted.draw(group=0, one_off=0)
    rng = np.random.default_rng(6)
    view = 1.5 * rng.normal(size=tokens.shape[1:])
    tokens[:10] = view + 0.6 * rng.normal(size=tokens[:10].shape)
    found = planted.find(tokens).recurring
    assert found.groups == ()
    assert found.views == (tuple(range(10)),)
    assert not found.defect_patches.any()


def test_a_defect_in_nearly_all_images_is_normality():
    tokens = planted.draw(20, group=17, one_off=0)
    _, table = planted.table(tokens)
    assert not shown_patches(table[0], np.arange(20), [tuple(range(17))], 5).any()


def test_defect_patches_are_excluded_from_the_references():
    found, *_, exclusions = planted.find(planted.draw())
    (group,) = found.groups
    ((columns, patches),) = exclusions.masks
    assert sorted(columns.tolist()) == sorted(group.members)
    np.testing.assert_array_equal(patches, found.defect_patches.reshape(48, -1))
    np.testing.assert_array_equal(exclusions.removed, patches)


def test_duplicates_take_memory_for_images_and_references_only():
    distances = np.random.default_rng(0).random((600, 20, 100), np.float32) + 0.5
    tracemalloc.start()
    try:
        duplicate_pairs(as_distances(distances, np.arange(20) * 30))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # less than one number for each pair of images
    assert peak < 600 * 600 * 8 / 4


def test_flagging_copies_no_great_part_of_the_distances(monkeypatch):
    # at N = 5,000 with 256 references the distances take 1.2 GiB
    distances = np.random.default_rng(0).random((1200, 30, 100), np.float32) + 0.5
    references = np.arange(30) * 40
    distances[:500, :13, :40] *= 0.1
    distances[:500, 13:, :40] += 1.0
    monkeypatch.setattr(arrays, "COPIED_BYTES", distances.nbytes // 10)
    tracemalloc.start()
    try:
        flagged = shown_patches(distances, references, [list(range(500))], 5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert flagged[:500, :40].all() and not flagged[500:].any()
    assert peak < distances.nbytes / 2
