"""What the report says of thresholds and of groups, in sentences."""

import numpy as np

from codegraph_jax.consistency.community import Evidence
from codegraph_jax.consistency.pattern import Verdict
from codegraph_jax.consistency.verdicts import ALIEN, CONTINUUM, ROUGH, STANDS_OUT
from codegraph_jax.core.names import shown
from codegraph_jax.result import DetectionResult
from codegraph_jax.scoring.threshold import Calibration

VERDICTS: dict[Verdict, str] = {
    "defect": "defect", "variant": "harmless variant", "undecided": "recurs: defect or variant?"
}  # fmt: skip
"""How the report calls what a group is taken for."""
CHOICES: tuple[tuple[Verdict, str], ...] = (
    ("defect", "a defect"), ("variant", "a harmless variant"), ("undecided", "undecided")
)  # fmt: skip


def describe_threshold(calibration: Calibration, images: int, label: str) -> str:
    """How a threshold came about and what is to be expected of it, in a sentence or two."""
    rate, law = calibration.expected_rate, calibration.normal_scores
    expected = f"A normal image is expected above it with a probability of {_percent(rate)}"
    if calibration.rule == "given":
        return f"Given by the user. {expected}."
    if calibration.rule == "share":
        return f"Set so that the given share of the images is flagged. {expected}."
    if calibration.rough:
        return (
            f"{calibration.images} images say little of what is normal (the curve): the threshold is rough, and errs "
            f"on the high side. {expected}."
        )
    apart = images - calibration.images
    members = f" The {apart} members of recurring defects are flagged whatever they score." if apart else ""
    return (
        f"Of the scores of {label}, {_percent(law.share)} look normal (the curve). {expected}: about "
        f"{law.share * calibration.images * rate:.1f} images.{members}"
    )


def describe_evidence(evidence: Evidence) -> list[tuple[bool, str]]:
    """What the rule looks at (`consistency.verdicts`): whether it speaks for a defect, and what was measured."""
    return [
        (
            evidence.p_value <= STANDS_OUT,
            f"Judged by the other images, a typical member scores as a normal image does with probability "
            f"{evidence.p_value:.2g} (a defect: at most {STANDS_OUT}).",
        ),
        (
            evidence.roughness >= ROUGH,
            f"The nearest repeat of the pattern differs {evidence.roughness:.2f} times as much as that of the rest of "
            f"the part (a defect: at least {ROUGH}; a print repeats exactly).",
        ),
        (
            evidence.contrast <= ALIEN,
            f"Images without it are {evidence.contrast:.2f} times as far from it as members are (a defect: at most "
            f"{ALIEN}; another version of the part lies farther).",
        ),
        (
            evidence.spread <= CONTINUUM,
            f"Members differ {evidence.spread:.2f} times as unequally in it as in the rest of the part (a defect: at "
            f"most {CONTINUUM}; what turns with the part is near to some and far from others).",
        ),
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.2g}\u00a0%"


def several_products(category: str, result: DetectionResult) -> str:
    """What to say of a category that shows more than one product; empty where it shows one."""
    if result.products is None or not result.products.any():
        return ""
    counts = " and ".join(str(count) for count in np.bincount(result.products))
    return (
        f"{shown(category)}: looks like {result.products.max() + 1} products or views ({counts} images), of which the "
        "rarer one counts as anomalous; --config.data.split=auto judges each by itself"
    )
