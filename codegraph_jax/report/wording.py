"""Sentences of the report on thresholds, verdicts, probabilities and groups."""

import math

import numpy as np

from codegraph_jax.consistency.defect_or_variant import (
    MAX_DISTANCE_INEQUALITY,
    MAX_OUTSIDE_RATIO,
    MAX_SCORE_P_VALUE,
    MIN_REPEAT_RATIO,
)
from codegraph_jax.consistency.groups import Evidence
from codegraph_jax.consistency.pattern import PatternVerdict
from codegraph_jax.consistency.spacing_law import SpacingLaw
from codegraph_jax.core.names import printable
from codegraph_jax.result import DetectionResult
from codegraph_jax.scoring import photo_verdicts
from codegraph_jax.scoring.threshold import Calibration

VERDICTS: dict[photo_verdicts.PhotoVerdict, str] = {
    "flagged": "flagged", "look": "look at this", "passed": "passed", "undecided": "undecided"
}  # fmt: skip
"""Words for the verdict on a photo."""
TILES: tuple[tuple[photo_verdicts.PhotoVerdict, str, str], ...] = (
    ("flagged", "flagged", "alarm"), ("look", "look at these", "warn"), ("passed", "passed", ""),
    ("undecided", "undecided: too few photos", "warn"),
)  # fmt: skip
"""Counts of verdicts at the top of the page: verdict, heading and colour."""
GROUPS: dict[PatternVerdict, str] = {
    "defect": "defect",
    "variant": "harmless variant",
    "undecided": "defect or variant?",
}
"""Words for the verdict on a group."""
CHOICES: tuple[tuple[PatternVerdict, str], ...] = (
    ("defect", "a defect"), ("variant", "a harmless variant"), ("undecided", "undecided")
)  # fmt: skip
RAREST = 1_000_000


def chance(p: float) -> str:
    """A probability as a count: "1 in 5,700"."""
    if p > 0.5:
        return "most"
    if p * RAREST < 1:
        return f"fewer than 1 in {RAREST:,}"
    number = round(1 / p)
    return f"1 in {round(number, 1 - math.floor(math.log10(number))):,}"


def rarity(p: float) -> str:
    """A p-value as the share of good parts: "1 in 5,700 good parts"."""
    return f"{chance(p)} good parts"


def counted(count: int, what: str) -> str:
    """A count with its noun: "1 photo", "2 photos of earlier batches"."""
    noun, *rest = what.split(" ", 1)
    return " ".join([f"{count} {noun}{'' if count == 1 else 's'}", *rest])


def how_unusual(result: DetectionResult) -> list[str]:
    """How many good parts score as high as each photo [n], or, with answers, the probability of a defect."""
    calibrator = result.calibrator()
    if not calibrator.decided:
        return [rarity(p) for p in result.calibration.p_values]
    calibration, labels = result.calibration, calibrator.labels
    marked = calibration.flagged & (result.scores < calibration.threshold)
    texts = []
    for place, likely in enumerate(calibrator.defective):
        if (label := labels.get(place)) is not None:
            texts.append(f"you: {'defective' if label else 'good'}")
        else:
            texts.append("flagged by its mark" if marked[place] else f"defective: {_percent(likely)}")
    return texts


def _percent(share: float) -> str:
    rounded = round(100 * share)
    return "less than 1 %" if rounded < 1 else "more than 99 %" if rounded > 99 else f"{rounded} %"


def describe_threshold(calibration: Calibration, images: int) -> str:
    """The origin of the threshold and the expected false alarms, in one or two sentences."""
    rate = calibration.expected_rate
    mistakes = f"About {rarity(rate)}" if rate > 0 else "Hardly any good part"
    expected = f"{mistakes} will be flagged by mistake"
    if calibration.rule == "score":
        return f"You gave this threshold. {expected}."
    if calibration.rule == "answers":
        return f"Your answers set this threshold. {expected}."
    if calibration.rule == "share":
        return f"The threshold flags the share of photos that you asked for. {expected}."
    if calibration.too_few_photos:
        return f"{calibration.images} photos are too few for a reliable threshold; this one may flag too little."
    count = calibration.normal_scores.share * calibration.images * rate
    number = "fewer than one" if count < 1 else f"about {count:.0f}"
    apart = images - calibration.images
    members = f" The {apart} photos with a recurring defect are flagged whatever they score." if apart else ""
    return f"{expected}; in this set of {images} that is {number}.{members}"


def describe_evidence(evidence: Evidence) -> list[tuple[bool, str]]:
    """The four observations on a group (`consistency.defect_or_variant`): (whether it indicates a defect, sentence)."""
    stands_out, rough = evidence.score_p_value <= MAX_SCORE_P_VALUE, evidence.repeat_distance_ratio >= MIN_REPEAT_RATIO
    similar, steady = (
        evidence.outside_distance_ratio <= MAX_OUTSIDE_RATIO,
        evidence.distance_inequality_ratio <= MAX_DISTANCE_INEQUALITY,
    )
    look = "stand out" if stands_out else "look normal"
    unusual = rarity(evidence.score_p_value)
    alone = f"Compared with the other photos alone, these parts {look} (about {unusual} score this high)."
    if rough:
        repeat = (
            f"Even the two most similar marks differ, {evidence.repeat_distance_ratio:.1f} times as much as the rest "
            "of the part; a print would repeat exactly."
        )
    else:
        repeat = "The mark repeats as exactly as the rest of the part, as a print would."
    if similar:
        others = "Apart from the mark, these parts look like the others at this place."
    else:
        others = (
            f"The other parts look quite different at this place ({evidence.outside_distance_ratio:.1f} times as far "
            "from the mark as the marks from each other), as another version of the part would."
        )
    if steady:
        change = "The marks are all about equally similar."
    else:
        change = "The mark differs from part to part, as a rotating print would."
    return [(stands_out, alone), (rough, repeat), (similar, others), (steady, change)]


def describe_spacing_fit(fit: SpacingLaw) -> str:
    """How well the search for recurring defects fits a set, in one line."""
    return (
        f"Search for recurring defects: {100 * fit.below['0.01']:.1f} % of the normal patches look suspicious, where "
        "1 % are expected."
    )


def several_products(category: str, result: DetectionResult) -> str:
    """A warning about a category with more than one product; empty for one product."""
    if result.products is None or not result.products.any():
        return ""
    counts = " and ".join(str(count) for count in np.bincount(result.products))
    return (
        f"{printable(category)}: the folder seems to mix {result.products.max() + 1} products or views ({counts} "
        "photos), so photos of the rarer one are flagged. To inspect them separately: --config.data.split=auto"
    )
