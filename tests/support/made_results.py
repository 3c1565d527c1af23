"""Results of given scores, without a detection."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from codegraph_jax.config import ThresholdConfig
from codegraph_jax.data.frame import Frame
from codegraph_jax.data.placement import Placement
from codegraph_jax.data.samples import Sample
from codegraph_jax.result import DetectionResult
from codegraph_jax.scoring.threshold import calibrate


def decided(scores: np.ndarray) -> dict[str, Any]:
    """The scores of a result, its thresholds from these scores, and its flags."""
    calibration = calibrate(scores, ThresholdConfig())
    return {
        "scores": scores, "scores_rescored": scores, "p_values": calibration.p_values(scores),
        "flagged": calibration.flags(scores), "calibration": calibration,
    }  # fmt: skip


def made_result(scores: np.ndarray, samples: Sequence[Sample], **fields: Any) -> DetectionResult:
    """The result of photos of 60 x 40 px on a grid of one patch, whose patch scores are 0; `fields` replace others."""
    count = len(scores)
    values = {
        "kept": np.arange(count),
        "unreadable": [],
        "patch_scores": np.zeros((count, 1, 1)),
        "placement": Placement.whole(Frame.squeezed(16, 16), np.tile((60, 40), (count, 1))),
        "weights_name": "made",
        "feature_identity": {"weights": "made"},
        "seconds": {},
        "samples": tuple(samples),
    }
    return DetectionResult(**values | decided(scores) | fields)
