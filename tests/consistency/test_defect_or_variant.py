"""Defect or variant: the criteria of the rule, and effects of a person's verdict on this set and the next."""

import dataclasses

import numpy as np
import pytest

from codegraph_jax.config import RecurringConfig
from codegraph_jax.consistency.defect_or_variant import (
    MAX_DISTANCE_INEQUALITY,
    MAX_OUTSIDE_RATIO,
    MAX_SCORE_P_VALUE,
    MIN_REPEAT_RATIO,
    decide,
)
from codegraph_jax.consistency.groups import Evidence
from codegraph_jax.consistency.pattern import Pattern, Product
from codegraph_jax.consistency.stages import find_recurring_patterns
from tests.support import planted

EXACT = 0.2
"""The noise between repeats of a print."""
DEFECT = Evidence(
    score_p_value=MAX_SCORE_P_VALUE,
    repeat_distance_ratio=MIN_REPEAT_RATIO,
    outside_distance_ratio=MAX_OUTSIDE_RATIO,
    distance_inequality_ratio=MAX_DISTANCE_INEQUALITY,
)


def pattern_of(found, verdict, name=""):
    return dataclasses.replace(
        found.patterns[0].for_other_sets(found.product, len(found.pattern_numbers)), verdict=verdict, name=name
    )


def test_rough_repeats_are_defects_and_exact_ones_are_not():
    found = planted.find(planted.draw()).recurring
    assert found.groups[0].verdict == "defect" and found.defect_members(48).sum() == 10
    assert found.groups[0].evidence.repeat_distance_ratio >= MIN_REPEAT_RATIO

    found, mutual, full, *_ = planted.find(planted.draw(rough=EXACT))
    (group,) = found.groups
    assert sorted(group.members) == list(range(10)), "it is reported"
    assert group.verdict == "undecided" and not group.reviewed
    assert group.evidence.repeat_distance_ratio < MIN_REPEAT_RATIO
    assert not found.defect_patches.any() and not found.defect_members(48).any()
    np.testing.assert_array_equal(full, mutual)


def test_unsure_groups_can_be_filtered_all_the_same():
    found, mutual, full, *_ = planted.find(planted.draw(rough=EXACT), RecurringConfig(defects="all"))
    assert found.groups[0].verdict == "defect"
    region = np.ix_(range(10), planted.REGION)
    assert (full[region] > mutual[region]).all()


@pytest.mark.parametrize(
    "worse",
    [
        {"score_p_value": 0.06},
        {"repeat_distance_ratio": 1.2},
        {"outside_distance_ratio": 2.1},
        {"distance_inequality_ratio": 1.15},
    ],
    ids=lambda worse: [*worse][0],
)
def test_all_four_conditions_are_required(worse):
    assert decide(DEFECT, RecurringConfig()) == "defect"
    assert decide(dataclasses.replace(DEFECT, **worse), RecurringConfig()) == "undecided"


def test_without_evidence_nothing_is_decided():
    assert decide(None, RecurringConfig()) == "undecided"
    # all but four images are members: too few others to compare with
    found = planted.find(planted.draw(20, group=9, one_off=0)).recurring
    assert all(group.evidence for group in found.groups)
    assert decide(None, RecurringConfig(defects="all")) == "undecided"


def test_a_person_can_say_that_it_is_a_defect():
    tokens = planted.draw(rough=EXACT)
    before, mutual, *_ = planted.find(tokens)
    found, _, full, *_ = planted.find(tokens, patterns=[pattern_of(before, "defect", "tool mark")])
    (group,) = found.groups
    assert (group.verdict, group.name, group.reviewed) == ("defect", "tool mark", True)
    assert found.defect_members(48).sum() == 10 and found.defect_patches.any()
    region = np.ix_(range(10), planted.REGION)
    assert (full[region] > 1.2 * mutual[region]).all()


def test_a_variant_is_neither_filtered_nor_anomalous():
    tokens = planted.draw()
    before, mutual, *_ = planted.find(tokens)
    found, _, full, *_ = planted.find(tokens, patterns=[pattern_of(before, "variant", "imprint")])
    (group,) = found.groups
    assert (group.verdict, group.reviewed) == ("variant", True)
    assert not found.defect_members(48).any() and not found.defect_patches.any()
    region = np.ix_(range(10), planted.REGION)
    usual = np.median(mutual[:10], axis=1, keepdims=True)
    shown = found.pattern_numbers.reshape(48, -1)[region] == 1
    assert shown.mean() > 0.8
    assert (full[region] <= np.where(shown, usual, mutual[region])).all()
    outside = full[15:]
    np.testing.assert_array_equal(outside, mutual[15:])


def test_decisions_are_recognised_in_the_next_batch():
    tokens = planted.draw(96, group=20, one_off=10)
    first = planted.find(tokens[::2]).recurring
    pattern = pattern_of(first, "defect", "scratch")
    assert (pattern.member_count, pattern.image_count) == (10, 48)

    second = planted.find(tokens[1::2], patterns=[pattern]).recurring
    (group,), (match,) = second.groups, second.matches
    assert (group.verdict, group.name, group.reviewed) == ("defect", "scratch", True)
    assert match.number == 1 and set(range(10)) <= set(match.images)
    assert len(match.images) <= 13, "few other images match"
    assert second.patterns[0].for_other_sets(second.product, 48).member_count == len(match.images)


def test_a_pattern_too_rare_for_a_community_is_recognised():
    tokens = planted.draw(96, group=20, one_off=10)
    first = planted.find(tokens[::2]).recurring
    rare = np.concatenate([tokens[1:4:2], tokens[41:]])
    second, mutual, full, *_ = planted.find(rare, patterns=[pattern_of(first, "defect", "scratch")])
    assert not second.groups
    (match,) = second.matches
    assert match.number == 1 and {0, 1} <= set(match.images) and len(match.images) <= 5
    assert [(pattern.number, pattern.verdict) for pattern in second.patterns] == [(1, "defect")]
    assert (full[:2, planted.REGION] >= mutual[:2, planted.REGION]).all()
    assert not second.defect_members(len(rare)).any(), "a match alone does not flag an image"


def test_patterns_of_another_product_are_kept_and_not_applied():
    tokens = planted.draw()
    before = planted.find(tokens).recurring
    other = Product(np.array([-127], np.int8), 0.5)
    pattern = dataclasses.replace(pattern_of(before, "variant"), product=other)
    comparison = planted.compare(tokens)
    features = dataclasses.replace(comparison.features, image_features=np.ones((48, 1), np.float32))
    comparison = dataclasses.replace(comparison, features=features)
    found, _ = find_recurring_patterns(comparison, 14, RecurringConfig(), [pattern])
    assert found.groups[0].verdict == "defect" and not found.groups[0].reviewed
    assert found.matches == () and [p.name for p in found.others] == [pattern.name]


@pytest.mark.parametrize(("verdict", "name"), [("harmless", ""), ("defect", "x" * 201), ("defect", 7)])
def test_patterns_with_unknown_verdicts_or_long_names_are_refused(verdict, name):
    found = planted.find(planted.draw()).recurring
    known = found.patterns[0].for_other_sets(found.product, 48)
    with pytest.raises(ValueError, match=r"verdict|name"):
        Pattern(name, verdict, known.signature, known.product, 1, 2)
