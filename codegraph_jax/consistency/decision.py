"""Flags photos by the label-free threshold, or by a person's answers to some photos [ours].

Answers and a threshold set by hand are applied to the scores that the report showed, so that a run with the review
gives the verdicts that the report displayed. Marks are applied afterwards: the mark of a photo that was called good is
harmless in every photo, and a photo that shows the mark of a defective one is flagged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float

from codegraph_jax.config import ThresholdConfig
from codegraph_jax.consistency.filtered_scores import clip_to_median
from codegraph_jax.consistency.groups import RecurringPatterns
from codegraph_jax.consistency.marks import photo_mark
from codegraph_jax.consistency.pattern import Pattern, PatternVerdict
from codegraph_jax.consistency.review import PhotoReview, Review
from codegraph_jax.consistency.signature import recognise_all
from codegraph_jax.core.json_fields import JsonFields
from codegraph_jax.data.placement import Placement
from codegraph_jax.data.roi import InspectedArea
from codegraph_jax.features.features import Features
from codegraph_jax.scoring.active_calibration import ActiveCalibrator, Answer
from codegraph_jax.scoring.maps import image_scores
from codegraph_jax.scoring.regions import only_short_regions
from codegraph_jax.scoring.scores import STANDARD, Score
from codegraph_jax.scoring.threshold import Calibration, calibrate
from codegraph_jax.similarity.comparison import Comparison

T = TypeVar("T")


@dataclass(frozen=True)
class Answers(JsonFields):
    """A person's answers to the photos of a set.

    Attributes:
        photos: answers by the digest of the photo; includes other photos, whose marks are applied.
        threshold: threshold set by hand; None if it was not set.
        score: name of the score that `threshold` is for.
        max_defective: the greatest share of the photos that may be defective.
    """

    photos: dict[str, PhotoReview] = field(default_factory=dict)
    threshold: float | None = None
    score: str = STANDARD.name
    max_defective: float = 1.0

    @classmethod
    def of(cls, review: Review | None, category: str = "") -> "Answers":
        """The answers of a review to a category; a review of a single category applies to any name."""
        if review is None:
            return cls()
        decision = review.thresholds.get(category) or _only(review.thresholds)
        max_defective = review.max_defective.get(category) or _only(review.max_defective) or 1.0
        if decision is None:
            return cls(review.photos, max_defective=max_defective)
        return cls(review.photos, decision.threshold, decision.score, max_defective)

    def by_index(self, keys: Sequence[str]) -> dict[int, Answer]:
        """Answers by the index of the photo among these keys."""
        answers = {index: self.photos[key].answer for index, key in enumerate(keys) if key in self.photos}
        return {index: answer for index, answer in answers.items() if answer is not None}

    @property
    def marks(self) -> list[Pattern]:
        """Marks of the answered photos."""
        return [photo.mark for photo in self.photos.values() if photo.mark]


@dataclass(frozen=True)
class PhotoDecisions:
    """Score, threshold and flags of n photos.

    Attributes:
        score_name: name of the chosen score.
        patch_scores: patch scores of this score, with harmless marks clipped [n, h, w].
        scores: greatest value of each anomaly map [n].
        scores_by_name: greatest values before harmless marks were clipped, by score, to which threshold and
            answers apply [n].
        calibration: threshold and distribution of normal scores.
        p_values: share of normal photos that score as high [n].
        flagged: photos that are flagged (`flag_photos`) [n].
        answers: the answers, with the marks of the photos of this set.
    """

    score_name: str
    patch_scores: Float[np.ndarray, "n h w"]
    scores: Float[np.ndarray, " n"]
    scores_by_name: Mapping[str, Float[np.ndarray, " n"]]
    calibration: Calibration
    p_values: Float[np.ndarray, " n"]
    flagged: Bool[np.ndarray, " n"]
    answers: Answers


def calibrator_of(
    scores: Mapping[str, Float[np.ndarray, " n"]],
    set_size: int,
    keys: Sequence[str],
    recurring: RecurringPatterns,
    threshold: float,
    answers: Answers,
) -> ActiveCalibrator:
    """The calibrator of a set with the answers so far.

    The first `set_size` photos are the set; `recurring`, which may be of more photos, has the members of recurring
    defects and the photos of the same part; `threshold` is the label-free one of the first score.
    """
    same_part = np.arange(len(keys))
    first: dict[str, int] = {}
    for group in recurring.duplicates:
        same_part[[i for i in group if i < len(keys)]] = min(group)
    for index, key in enumerate(keys):
        same_part[index] = same_part[first.setdefault(key, index)]
    calibrator = ActiveCalibrator(
        scores, set_size=set_size, same_part=same_part, always_flagged=recurring.defect_members(len(keys)),
        threshold=threshold, max_defective=answers.max_defective,
    )  # fmt: skip
    for index, answer in answers.by_index(keys).items():
        calibrator.answer(index, answer)
    return calibrator


def decide_photos(
    comparison: Comparison,
    patch_scores: Mapping[str, Float[np.ndarray, "n p"]],
    recurring: RecurringPatterns,
    config: ThresholdConfig,
    answers: Answers,
    chosen_score: Score,
) -> PhotoDecisions:
    """Chooses score and threshold of a set, and flags its photos.

    `patch_scores` has those of every score. Without answers, the label-free rule of `config` decides by the score
    `chosen_score`.
    """
    features, placement = comparison.features, comparison.features.placement
    maps_by_score = {name: values.reshape(-1, *comparison.options.grid) for name, values in patch_scores.items()}
    size, rects = placement.frame.size, placement.rects()
    image_score_of = {chosen_score.name: chosen_score.image_score}
    scores = {name: image_scores(maps, size, rects, image_score_of.get(name)) for name, maps in maps_by_score.items()}
    answers = replace(answers, max_defective=min(answers.max_defective, config.defective_limit))
    config = replace(config, max_defective=answers.max_defective)
    keys = [key.hex() for key in features.keys]
    name, calibration = _chosen_score_and_calibration(
        scores, comparison.set_size, keys, recurring, config, answers, chosen_score.name
    )

    by_index = answers.by_index(keys)
    answers = _with_marks(answers, by_index, keys, maps_by_score[name], scores[name], calibration, features)
    maps, shows_defect_mark = apply_marks(answers.marks, maps_by_score[name], features, comparison.set_size)
    scores_after_marks = scores[name]
    if maps is not maps_by_score[name]:
        scores_after_marks = image_scores(maps, size, rects, image_score_of.get(name))
    defective = recurring.defect_members(len(keys)) | shows_defect_mark
    flagged = flag_photos(calibration, maps, scores_after_marks, placement, features.areas, defective, by_index)
    p_values = calibration.p_values(scores_after_marks)
    return PhotoDecisions(name, maps, scores_after_marks, scores, calibration, p_values, flagged, answers)


def _chosen_score_and_calibration(
    scores: Mapping[str, Float[np.ndarray, " n"]],
    set_size: int,
    keys: Sequence[str],
    recurring: RecurringPatterns,
    config: ThresholdConfig,
    answers: Answers,
    label_free_score: str,
) -> tuple[str, Calibration]:
    """The name of the score, and the thresholds: set by hand, from answers, or label-free by `label_free_score`."""
    defect_members = recurring.defect_members(len(keys))[:set_size]

    def label_free(name: str) -> Calibration:
        return calibrate(scores[name][:set_size], config, defect_members)

    calibration = label_free(label_free_score)
    if answers.threshold is not None and answers.score in scores:
        return answers.score, label_free(answers.score).with_threshold(answers.threshold, "manual")
    calibrator = calibrator_of(scores, set_size, keys, recurring, calibration.threshold, answers)
    if not calibrator.answer_count:
        return label_free_score, calibration
    if calibrator.score_name != label_free_score:
        calibration = label_free(calibrator.score_name)
    if calibrator.has_enough_answers:
        calibration = calibration.with_threshold(calibrator.threshold, "answers")
    return calibrator.score_name, calibration


def flag_photos(
    calibration: Calibration,
    maps: Float[np.ndarray, "n h w"],
    scores: Float[np.ndarray, " n"],
    placement: Placement,
    areas: Sequence[InspectedArea],
    defective: Bool[np.ndarray, " n"],
    answers: Mapping[int, Answer],
) -> Bool[np.ndarray, " n"]:
    """The photos that are flagged.

    Photos are flagged by the threshold, or because they show a recurring defect or a mark (`defective`), unless
    `min_defect_length` tolerates their defects; the answers of a person, by index, override all of it.
    """
    flagged = calibration.flags(scores, defective)
    flagged &= ~only_short_regions(maps, flagged, placement, calibration, areas)
    for index, answer in answers.items():
        if answer != "unsure":
            flagged[index] = answer == "defective"
    return flagged


def _with_marks(
    answers: Answers,
    answers_by_index: Mapping[int, Answer],
    keys: Sequence[str],
    patch_scores: Float[np.ndarray, "n h w"],
    scores: Float[np.ndarray, " n"],
    calibration: Calibration,
    features: Features,
) -> Answers:
    """The answers with marks for the photos that have none yet."""
    photos = dict(answers.photos)
    for index, answer in answers_by_index.items():
        photo = photos[keys[index]]
        # a good part that passes needs no mark
        if answer == "unsure" or photo.mark or (answer == "good" and scores[index] < calibration.threshold):
            continue
        verdict: PatternVerdict = "defect" if answer == "defective" else "variant"
        min_score = calibration.patch_threshold
        mark = photo_mark(index, patch_scores[index].ravel(), min_score, features, verdict, photo.name)
        photos[keys[index]] = replace(photo, mark=mark)
    return replace(answers, photos=photos)


def apply_marks(
    marks: Sequence[Pattern], patch_scores: Float[np.ndarray, "n h w"], features: Features, set_size: int
) -> tuple[Float[np.ndarray, "n h w"], Bool[np.ndarray, " n"]]:
    """Clips harmless marks in the maps, and finds the photos that show the mark of a defective one.

    The first `set_size` photos are the set; marks of other products are ignored.
    """
    marks = [mark for mark in marks if mark.product.fits(features.image_features[:set_size])]
    count = len(patch_scores)
    if not marks:
        return patch_scores, np.zeros(count, bool)
    pattern_patches = recognise_all([mark.signature for mark in marks], features)
    harmless = np.array([mark.verdict == "variant" for mark in marks])
    flat = clip_to_median(patch_scores.reshape(count, -1), pattern_patches[harmless].any(axis=0))
    return flat.reshape(patch_scores.shape), pattern_patches[~harmless].any(axis=(0, 2))


def _only(values: Mapping[str, T]) -> T | None:
    """The value of a mapping with a single item; otherwise None."""
    return next(iter(values.values())) if len(values) == 1 else None
