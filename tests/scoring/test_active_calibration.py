"""A few answers set the threshold and choose the score."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegraph_jax import ActiveCalibrator
from codegraph_jax.scoring.active_calibration import MIN_ANSWERS, ParameterGrid
from studies.answers import answer, balanced_accuracy, best_balanced_accuracy

ANSWERS = {False: "good", True: "defective"}


def drawn(photos: int, share: float, apart: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and which photos are defective."""
    rng = np.random.default_rng(seed)
    labels = np.arange(photos) < round(share * photos)
    rng.shuffle(labels)
    return rng.normal(size=photos) + apart * labels, labels


@pytest.mark.parametrize("share", [0.15, 0.5, 0.8])
def test_eight_answers_come_close_to_the_best_threshold(share):
    gaps = []
    for seed in range(8):
        scores, labels = drawn(120, share, 3.0, seed)
        calibrator = ActiveCalibrator(scores)
        answer(calibrator, labels, 8)
        gaps.append(best_balanced_accuracy(scores, labels) - balanced_accuracy(calibrator.flagged, labels))
    # with few defective photos, more answers are needed: each of the 18 has a large weight in balanced accuracy
    assert np.mean(gaps) < (0.06 if share < 0.2 else 0.04) and max(gaps) < 0.15


def test_threshold_lies_in_the_gap():
    scores = np.concatenate([np.linspace(1.0, 1.2, 24), np.linspace(2.0, 2.5, 35)])
    labels = np.arange(59) >= 24
    calibrator = ActiveCalibrator(scores)
    answer(calibrator, labels, 8)
    assert balanced_accuracy(calibrator.flagged, labels) > 0.95


def test_a_set_without_defects_ends_without_false_alarms_and_soon():
    for seed in range(6):
        scores, labels = drawn(200, 0.0, 0.0, seed)
        calibrator = ActiveCalibrator(scores)
        while (photo := calibrator.suggest()) is not None:
            calibrator.answer(photo, "good")
        assert calibrator.answer_count <= 12 and not calibrator.flagged.any()
        # a new photo with a higher score than all of them is flagged
        assert scores.max() < calibrator.threshold < scores.max() + 1e-6


def test_the_score_that_agrees_with_the_answers_is_chosen():
    scores, labels = drawn(100, 0.4, 3.5)
    blind = np.random.default_rng(9).normal(size=100)
    calibrator = ActiveCalibrator({"blind": blind, "other": scores})
    assert calibrator.score_name == "blind"
    answer(calibrator, labels, 12)
    assert calibrator.score_name == "other" and calibrator.score_probabilities["other"] > 0.9
    # the default score is kept if it is equally good
    calibrator = ActiveCalibrator({"default": scores, "same": scores + 0.01 * blind})
    answer(calibrator, labels, 12)
    assert calibrator.score_name == "default"


def test_answers_can_be_replaced_and_removed():
    scores, labels = drawn(60, 0.3, 2.0)
    calibrator, other = ActiveCalibrator(scores), ActiveCalibrator(scores)
    for photo in (3, 17, 40):
        calibrator.answer(photo, ANSWERS[labels[photo]])
    calibrator.answer(3, ANSWERS[not labels[3]])
    calibrator.answer(50, "unsure")
    assert calibrator.answers[50] == "unsure" and calibrator.answer_count == 3
    assert calibrator.information()[50] == -1
    calibrator.answer(3, ANSWERS[labels[3]])
    calibrator.remove_answer(50)
    calibrator.remove_answer(51)
    for photo in (40, 3, 17):  # in another order
        other.answer(photo, ANSWERS[labels[photo]])
    assert calibrator.threshold == other.threshold
    np.testing.assert_allclose(calibrator.information(), other.information(), atol=1e-12)


def test_an_answer_decides_its_own_photo_and_contradictions_do_no_harm():
    scores, labels = drawn(80, 0.4, 4.0)
    calibrator = ActiveCalibrator(scores)
    answer(calibrator, labels, 10)
    before = calibrator.flagged
    lowest, highest = int(scores.argmin()), int(scores.argmax())
    calibrator.answer(lowest, "defective")
    calibrator.answer(highest, "good")
    after = calibrator.flagged
    assert after[lowest] and not after[highest]
    others = np.setdiff1d(np.arange(80), [lowest, highest])
    assert (before[others] != after[others]).mean() < 0.1


def test_copies_are_one_answer_and_are_asked_for_once():
    scores, labels = drawn(60, 0.3, 2.0)
    scores[1] = scores[0]
    copies = np.arange(60)
    copies[1] = 0
    once, twice = ActiveCalibrator(scores, same_part=copies), ActiveCalibrator(scores, same_part=copies)
    once.answer(0, "defective")
    twice.answer(0, "defective")
    twice.answer(1, "defective")
    assert once.information()[1] == -1
    np.testing.assert_allclose(once.defect_probabilities[2:], twice.defect_probabilities[2:])


def test_known_defects_and_added_photos():
    scores, labels = drawn(50, 0.3, 2.0)
    known = np.zeros(50, bool)
    known[int(scores.argmin())] = True
    calibrator = ActiveCalibrator(scores, always_flagged=known, set_size=40)
    assert calibrator.flagged.sum() == 1 and (calibrator.information()[40:] == -1).all()
    answer(calibrator, labels, 6)
    assert calibrator.flagged[known].all()
    calibrator.answer(int(scores.argmin()), "good")
    assert not calibrator.flagged[known].any()
    # only photos of the set determine the ranks
    alone = ActiveCalibrator(scores[:40], always_flagged=known[:40])
    for photo, label in calibrator.answers.items():
        if photo < 40:
            alone.answer(photo, label)
    if not any(photo >= 40 for photo in calibrator.answers):
        assert alone.threshold == calibrator.threshold


def test_before_any_answer_the_label_free_threshold_counts():
    scores, _ = drawn(30, 0.2, 3.0)
    assert not ActiveCalibrator(scores).flagged.any()
    calibrator = ActiveCalibrator(scores, threshold=1.0)
    np.testing.assert_array_equal(calibrator.flagged, scores >= 1.0)


def test_two_answers_apply_only_to_their_photos():
    scores, _ = drawn(60, 0.3, 2.0)
    calibrator = ActiveCalibrator({"a": scores, "b": -scores}, threshold=2.5)
    before = calibrator.flagged
    middle, low = int(np.argsort(scores)[30]), int(np.argsort(scores)[10])
    calibrator.answer(middle, "defective")
    calibrator.answer(low, "good")
    changed = np.flatnonzero(calibrator.flagged != before)
    assert changed.tolist() == [middle] and calibrator.threshold == 2.5 and calibrator.score_name == "a"


def test_no_more_than_so_many_can_be_defective():
    scores, _ = drawn(100, 0.5, 1.0)
    calibrator = ActiveCalibrator(scores, max_defective=0.05)
    middle = int(np.argsort(scores)[50])
    for photo in np.argsort(scores)[-3:]:
        calibrator.answer(int(photo), "defective")
    assert calibrator.defect_probabilities[middle] < 0.2 < ActiveCalibrator(scores).defect_probabilities[middle]


def test_estimated_limits_contain_the_truth():
    held = []
    for seed in range(40):
        scores, labels = drawn(100, [0.1, 0.3, 0.6][seed % 3], [1.5, 3.0][seed % 2], seed)
        calibrator = ActiveCalibrator(scores)
        answer(calibrator, labels, 8)
        estimate, flagged = calibrator.estimate, calibrator.flagged
        for count, truth in ((estimate.false_alarms, flagged & ~labels), (estimate.misses, ~flagged & labels)):
            held.append(count.low <= truth.sum() <= count.high)
            assert count.low <= count.high <= 100 and 0 <= count.expected <= count.total + 1e-9
    assert np.mean(held) >= 0.85


def test_a_suggestion_for_thousands_of_photos_is_fast():
    scores = {name: drawn(5000, 0.1, 2.0, seed)[0] for seed, name in enumerate("abcde")}
    calibrator = ActiveCalibrator(scores)
    calibrator.suggest()
    seconds = []
    for photo in range(20):
        calibrator.answer(photo, "good")
        # time of this thread: other tests run at the same time, and threads of earlier ones may still run
        began = time.thread_time()
        calibrator.suggest()
        seconds.append(time.thread_time() - began)
    assert min(seconds) < 0.05


@given(st.integers(1, 40), st.integers(0, 10**6), st.integers(0, 12))
@settings(max_examples=40, deadline=None)
def test_any_set_and_any_answers_give_finite_numbers(photos, seed, answers):
    rng = np.random.default_rng(seed)
    scores = np.round(rng.normal(size=photos), rng.integers(0, 3))  # with ties
    calibrator = ActiveCalibrator({"a": scores, "b": -scores})
    for _ in range(answers):
        calibrator.answer(int(rng.integers(photos)), ["defective", "good", "unsure"][rng.integers(3)])
    photo = calibrator.suggest()
    assert photo is None or photo not in calibrator.answers
    assert calibrator.flagged.shape == (photos,) and np.isfinite(calibrator.defect_probabilities).all()
    if calibrator.has_enough_answers:
        assert np.isfinite(calibrator.threshold)
        free = [i for i in range(photos) if calibrator.answers.get(i, "unsure") == "unsure"]
        np.testing.assert_array_equal(
            calibrator.flagged[free], calibrator.scores[calibrator.score_name][free] >= calibrator.threshold
        )
    if calibrator.answer_count < MIN_ANSWERS and len(calibrator.answers) < photos:
        assert photo is not None


@pytest.mark.parametrize(
    ("scores", "given"),
    [
        ([], {}),
        ([np.nan], {}),
        ({"a": [1.0], "b": [1.0, 2.0]}, {}),
        ([1.0, 2.0], {"same_part": [0]}),
        ([1.0], {"set_size": 2}),
    ],
)
def test_invalid_arguments_are_refused(scores, given):
    with pytest.raises(ValueError, match="scores|same_part|set_size"):
        ActiveCalibrator(scores, **given)


def test_an_answer_for_a_missing_photo_is_refused():
    with pytest.raises(IndexError, match="photo 3 does not exist: the set has the photos 0 to 2"):
        ActiveCalibrator([1.0, 2.0, 3.0]).answer(3, "defective")


def test_the_prior_adds_up_to_one():
    for photos in (1, 12, 200, 5000):
        grid = ParameterGrid.of(photos)
        assert np.exp(grid.log_prior).sum() == pytest.approx(1)
        assert (np.diff(grid.defect_probabilities, axis=1) >= 0).all()
        assert len(grid.log_prior) == len(grid.defect_probabilities)
