"""Texts on thresholds, verdicts, probabilities and groups, for the pages and the terminal."""

import math

import numpy as np

from codegraph_jax.consistency.defect_or_variant import (
    MAX_DISTANCE_INEQUALITY,
    MAX_OUTSIDE_RATIO,
    MAX_SCORE_P_VALUE,
    MIN_REPEAT_RATIO,
)
from codegraph_jax.consistency.groups import Evidence
from codegraph_jax.core.names import printable
from codegraph_jax.report.texts import Text, text
from codegraph_jax.result import DetectionResult
from codegraph_jax.scoring.threshold import MIN_PHOTOS, Calibration, ThresholdWarning

RAREST = 1_000_000


def chance(p: float) -> Text:
    """A probability as a count: "1 in 5,700"; also in shared.js."""
    if p > 0.5:
        return text("most")
    if p * RAREST < 1:
        return text("fewer_than", number=RAREST)
    number = round(1 / p)
    return text("one_in", number=round(number, 1 - math.floor(math.log10(number))))


def rarity(p: float) -> Text:
    """A p-value as the share of good parts: "1 in 5,700 good parts"; also in wording.js."""
    return text("rarity_most") if p > 0.5 else text("rarity", chance=chance(p))


def counted(count: int, what: str) -> str:
    """A count with its noun: "1 photo", "2 photos of earlier batches"."""
    noun, *rest = what.split(" ", 1)
    return " ".join([f"{count} {noun}{'' if count == 1 else 's'}", *rest])


def rarity_texts(result: DetectionResult) -> list[str]:
    """How many good parts score as high as each photo [n], or, with answers, the probability of a defect, in English.

    Also in wording.js.
    """
    calibrator = result.calibrator()
    if not calibrator.has_enough_answers:
        return [str(rarity(p)) for p in result.p_values]
    calibration, answers = result.calibration, calibrator.answers
    marked = result.flagged & (result.scores < calibration.threshold)
    found = []
    for photo, likely in enumerate(calibrator.defect_probabilities):
        if (answer := answers.get(photo, "unsure")) != "unsure":
            found.append(text("you_said", answer=text(answer)))
        else:
            found.append(text("by_mark") if marked[photo] else text("probability", percent=_percent(likely)))
    return list(map(str, found))


def _percent(share: float) -> Text:
    rounded = round(100 * share)
    if 1 <= rounded <= 99:
        return text("percent", number=rounded)
    return text("percent_low" if rounded < 1 else "percent_high")


def describe_warning(warning: ThresholdWarning) -> Text:
    """Why a person should check the flags, and what to do."""
    values = {"flagged": warning.flagged, "photos": warning.image_count, "missed": warning.missed}
    return text("warning", reason=text(f"warning_{warning.kind}", **values))


def describe_threshold(calibration: Calibration, photo_count: int | None) -> Text:
    """The origin of the threshold and the expected false alarms; `photo_count` is None for the threshold of a bank."""
    rate = calibration.expected_rate
    if 0 < rate <= 0.5:
        expected = text("expected", rarity=rarity(rate))
    else:
        expected = text("expected_most" if rate else "expected_hardly")
    if calibration.decided_by != "rate":
        return text(f"threshold_{calibration.decided_by}", expected=expected)
    if calibration.too_few_photos:
        return text("threshold_too_few", count=calibration.set_size)
    if calibration.image_count < MIN_PHOTOS:
        return text("threshold_few_fitted", count=calibration.image_count)
    if photo_count is None:
        return text("threshold_bank", expected=expected)
    count = calibration.normal_scores.normal_share * calibration.image_count * rate
    number = text("fewer_than_one") if count < 1 else text("about_number", number=round(count))
    members = photo_count - calibration.image_count
    key = "threshold_rate_members" if members else "threshold_rate"
    return text(key, expected=expected, photos=photo_count, number=number, members=members)


def few_photos(calibration: Calibration, of_bank: bool) -> str:
    """A warning about a set with too few photos, or about a bank that was made from too few."""
    if of_bank:
        return (
            f"the bank was made from {calibration.set_size} photos, too few for reliable verdicts: make it from at "
            f"least {MIN_PHOTOS}"
        )
    return (
        f"{calibration.set_size} photos are too few for reliable verdicts: use at least {MIN_PHOTOS}, or inspect them "
        "with a bank: codegraph inspect BANK PHOTOS"
    )


def describe_evidence(evidence: Evidence) -> list[tuple[bool, Text]]:
    """The four observations on a group (`consistency.defect_or_variant`): (whether it indicates a defect, text)."""
    stands_out, rough = evidence.score_p_value <= MAX_SCORE_P_VALUE, evidence.repeat_distance_ratio >= MIN_REPEAT_RATIO
    similar = evidence.outside_distance_ratio <= MAX_OUTSIDE_RATIO
    steady = evidence.distance_inequality_ratio <= MAX_DISTANCE_INEQUALITY
    repeat, outside = (round(ratio, 1) for ratio in (evidence.repeat_distance_ratio, evidence.outside_distance_ratio))
    unusual = {"rarity": rarity(evidence.score_p_value)}
    return [
        (stands_out, text("evidence_stands_out" if stands_out else "evidence_looks_normal", **unusual)),
        (rough, text("evidence_rough", ratio=repeat) if rough else text("evidence_repeats")),
        (similar, text("evidence_similar") if similar else text("evidence_other", ratio=outside)),
        (steady, text("evidence_steady" if steady else "evidence_changes")),
    ]


def mixed_products_note(category: str, result: DetectionResult) -> Text | None:
    """A warning about a category with more than one product; None for one product."""
    if result.product_ids is None or not result.product_ids.any():
        return None
    sizes = [int(count) for count in np.bincount(result.product_ids)]
    return text("mixed", category=printable(category), count=len(sizes), sizes=sizes)


def tolerated_note(category: str, result: DetectionResult) -> Text | None:
    """A note on photos that pass thanks to `threshold.min_defect_length`; None without such photos."""
    count, smallest = int(result.tolerated.sum()), result.calibration.min_defect_length
    return text("tolerated", category=printable(category), count=count, smallest=float(smallest)) if count else None
