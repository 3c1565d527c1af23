"""From scores to verdicts: the label-free threshold, or what a person's answers to some photos make of it [ours].

Answers and a threshold set by hand are applied to the scores as the report showed them, so that a run with a review
gives the verdicts that its page promised. Marks come after that: what stands out in a photo that was called good is
harmless in every photo, and a photo that shows the mark of a defective one is flagged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float

from codegraph_jax.config import ThresholdConfig
from codegraph_jax.consistency.community import Consistency
from codegraph_jax.consistency.filtered import clip_to_median
from codegraph_jax.consistency.marks import photo_mark
from codegraph_jax.consistency.pattern import Pattern
from codegraph_jax.consistency.review import PhotoReview, Review
from codegraph_jax.consistency.signature import recognise_all
from codegraph_jax.features.features import Features
from codegraph_jax.scoring.looks import ActiveCalibrator
from codegraph_jax.scoring.maps import image_scores
from codegraph_jax.scoring.threshold import Calibration, calibrate
from codegraph_jax.scoring.variants import STANDARD
from codegraph_jax.similarity.comparison import Comparison

T = TypeVar("T")


@dataclass(frozen=True)
class Answers:
    """What a person has said of the photos of a set.

    Attributes:
        photos: by the key of the content; also those of photos that are not in the set, whose marks count.
        threshold: set by hand; None: not.
        score: name of the score that `threshold` is for.
        at_most: the greatest share of the photos that may be defective.
    """

    photos: Mapping[str, PhotoReview] = field(default_factory=dict)
    threshold: float | None = None
    score: str = STANDARD.name
    at_most: float = 1.0

    @classmethod
    def of(cls, review: Review | None, category: str = "") -> "Answers":
        """Those of a review that concern a category; the only one of the review where it has no such name."""
        if review is None:
            return cls()
        decision = review.decisions.get(category) or _only(review.decisions)
        at_most = review.at_most.get(category) or _only(review.at_most) or 1.0
        if decision is None:
            return cls(review.photos, at_most=at_most)
        return cls(review.photos, decision.threshold, decision.score, at_most)

    def labels(self, keys: Sequence[str]) -> dict[int, bool | None]:
        """Answers by the place of the photo among these keys."""
        return {
            place: self.photos[key].defective
            for place, key in enumerate(keys)
            if key in self.photos and self.photos[key].verdict is not None
        }

    def as_json(self) -> dict[str, Any]:
        """For a file; `from_json` reads it."""
        photos = [photo.as_json() for photo in self.photos.values()]
        return {"photos": photos, "threshold": self.threshold, "score": self.score, "at_most": self.at_most}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Answers":
        """What `as_json` gave; values of the wrong kind raise what Python raises for them."""
        photos = [PhotoReview.from_json(photo) for photo in values["photos"]]
        return cls({photo.key: photo for photo in photos}, values["threshold"], values["score"], values["at_most"])

    @property
    def marks(self) -> list[Pattern]:
        """What stands out in the photos that were judged."""
        return [photo.mark for photo in self.photos.values() if photo.mark]


@dataclass(frozen=True)
class Decided:
    """Verdicts on n photos.

    Attributes:
        variant: name of the score that counts.
        patch_scores: by that score, harmless marks lowered [n, h, w].
        scores: greatest value of each map [n].
        before: the same before marks were lowered, by the name of each score; threshold and answers are for these [n].
        calibration: threshold and flags.
        answers: with the marks of this set's photos.
    """

    variant: str
    patch_scores: Float[np.ndarray, "n h w"]
    scores: Float[np.ndarray, " n"]
    before: Mapping[str, Float[np.ndarray, " n"]]
    calibration: Calibration
    answers: Answers


def calibrator_of(
    scores: Mapping[str, Float[np.ndarray, " n"]],
    own: int,
    keys: Sequence[str],
    proven: Bool[np.ndarray, " n"],
    duplicates: Sequence[Sequence[int]],
    threshold: float,
    answers: Answers,
) -> ActiveCalibrator:
    """The calibrator of a set with the answers so far.

    Args:
        scores: by the name of the variant.
        own: the first so many photos are the set.
        keys: of the content of each photo.
        proven: members of a recurring defect.
        duplicates: groups of photos of one and the same part.
        threshold: of the label-free rule, for the standard score.
        answers: of a person.
    """
    copies = np.arange(len(keys))
    first: dict[str, int] = {}
    for group in duplicates:
        copies[list(group)] = min(group)
    for place, key in enumerate(keys):
        copies[place] = copies[first.setdefault(key, place)]
    calibrator = ActiveCalibrator(
        scores, set_size=own, copies=copies, known=proven, threshold=threshold, at_most=answers.at_most
    )
    for place, label in answers.labels(keys).items():
        calibrator.label(place, label)
    return calibrator


def decide_photos(
    comparison: Comparison,
    patch_scores: Mapping[str, Float[np.ndarray, "n p"]],
    found: Consistency,
    config: ThresholdConfig,
    answers: Answers,
) -> Decided:
    """Chooses score and threshold of a set, and flags its photos.

    Args:
        comparison: of all photos.
        patch_scores: by the name of the variant.
        found: what recurs.
        config: the label-free rule.
        answers: of a person; without any, the label-free rule decides.
    """
    features, own, placement = comparison.features, comparison.own, comparison.features.placement
    every_map = {name: values.reshape(-1, *comparison.options.grid) for name, values in patch_scores.items()}
    size, contents = placement.frame.size, placement.contents()
    scores = {name: image_scores(maps, size, contents) for name, maps in every_map.items()}
    standard = scores[STANDARD.name]
    answers = replace(answers, at_most=min(answers.at_most, config.at_most))
    config = replace(config, at_most=answers.at_most)
    proven = found.proven(len(standard))
    calibration = calibrate(standard[:own], config, proven[:own]).of(standard, proven)
    undecided = Decided(STANDARD.name, every_map[STANDARD.name], standard, scores, calibration, answers)
    keys = [key.hex() for key in features.keys]
    calibrator = calibrator_of(scores, own, keys, proven, found.duplicates, calibration.threshold, answers)
    if answers.threshold is not None and answers.score in scores:
        variant, threshold = answers.score, answers.threshold
    elif calibrator.answers:
        variant, threshold = calibrator.chosen, calibrator.threshold
    elif answers.marks:
        variant, threshold = STANDARD.name, calibration.threshold
    else:
        return undecided
    if variant != STANDARD.name:
        calibration = calibrate(scores[variant][:own], config, proven[:own])
    rule = "given" if answers.threshold is not None else "looks" if calibrator.decided else calibration.rule
    if rule in ("given", "looks"):
        calibration = calibration.moved(threshold, rule)
    labels = answers.labels(keys)
    answers = _with_marks(answers, labels, keys, every_map[variant], scores[variant], calibration, features)
    maps, known = apply_marks(answers.marks, every_map[variant], features, own)
    lowered = image_scores(maps, size, contents)
    calibration = calibration.of(lowered, proven | known)
    flagged = calibration.flagged.copy()
    for place, label in labels.items():
        if label is not None:
            flagged[place] = label
    return Decided(variant, maps, lowered, scores, replace(calibration, flagged=flagged), answers)


def _with_marks(
    answers: Answers,
    labels: Mapping[int, bool | None],
    keys: Sequence[str],
    patch_scores: Float[np.ndarray, "n h w"],
    scores: Float[np.ndarray, " n"],
    calibration: Calibration,
    features: Features,
) -> Answers:
    """The answers with what stands out in each photo that has no mark yet."""
    photos, grid = dict(answers.photos), (patch_scores.shape[1], patch_scores.shape[2])
    for place, label in labels.items():
        photo = photos[keys[place]]
        # a good part that passes needs no mark
        if label is None or photo.mark or (not label and scores[place] < calibration.threshold):
            continue
        own = patch_scores[place].ravel()
        stands_out = own >= min(calibration.patch_threshold, calibration.unusual)
        mark = photo_mark(place, stands_out, own, features, grid, "defect" if label else "variant", photo.name)
        photos[keys[place]] = replace(photo, mark=mark)
    return replace(answers, photos=photos)


def apply_marks(
    marks: Sequence[Pattern], patch_scores: Float[np.ndarray, "n h w"], features: Features, own: int
) -> tuple[Float[np.ndarray, "n h w"], Bool[np.ndarray, " n"]]:
    """Maps with harmless marks lowered, and the photos that show the mark of a defective one."""
    marks = [mark for mark in marks if mark.product.fits(features.image_features[:own])]
    count, height, width = patch_scores.shape
    if not marks:
        return patch_scores, np.zeros(count, bool)
    shown = recognise_all([mark.signature for mark in marks], features, (height, width))
    harmless = np.array([mark.verdict == "variant" for mark in marks])
    flat = clip_to_median(patch_scores.reshape(count, -1), shown[harmless].any(axis=0))
    return flat.reshape(patch_scores.shape), shown[~harmless].any(axis=(0, 2))


def _only(values: Mapping[str, T]) -> T | None:
    """The value of a mapping that has a single one."""
    return next(iter(values.values())) if len(values) == 1 else None
