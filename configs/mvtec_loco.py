"""MVTec LOCO AD, structural and logical anomalies (Bergmann et al., IJCV 2022).

    codegraph detect DIR --config=mvtec_loco

DIR holds the five categories (breakfast_box, juice_bottle, ...; page:
https://www.mvtec.com/company/research/datasets/mvtec-loco). CLIP ViT-L/14-336 at 518 px; a test image's masks, one
per defect, are joined. Patches show structural anomalies; a logical anomaly (an extra or a missing part) is found only
if it looks unlike all other images. The metrics are AUROC, AP, F1-max and AUPRO, not the
publication's saturated overlap (sPRO). A category of 330 images holds 7 GB of distances in memory.
"""

from codegraph_jax.config import BackboneConfig, Config, DataConfig


def get_config() -> Config:
    """The settings of the run."""
    backbone = BackboneConfig(name="clip-vit-l14-336")
    return Config(data=DataConfig(layout="mvtec"), backbone=backbone)
