"""VisA (Zou et al., ECCV 2022), with the settings of MuSc.

    codegraph detect DIR --config=visa

DIR is the set as published (a directory for each of the 12 objects beside split_csv/; page:
https://github.com/amazon-science/spot-diff) or its one-class copy in MVTec's form, of which the about 2,160 test images
are used. CLIP ViT-L/14-336 at 518 px and re-scoring with k = 1, 8, 9; a pixel of the resized mask is anomalous if it is
covered at all: MuSc's settings for this set (arXiv:2401.16753). Its published run used plain GELU, see --config=mvtec:
`--config.backbone.activation=gelu`. One object: `--config.data.categories=candle`. The distances of an object of 200
images take 2.6 GB of memory.
"""

from codegraph_jax.config import BackboneConfig, Config, DataConfig, MetricsConfig, ScoringConfig


def get_config() -> Config:
    """The settings of the run."""
    return Config(
        data=DataConfig(layout="visa"),
        backbone=BackboneConfig(name="clip-vit-l14-336"),
        scoring=ScoringConfig(rescore_k=(1, 8, 9)),
        metrics=MetricsConfig(mask_resizing="any"),
    )
