"""MVTec AD 2, the images whose labels are public (Heckler-Kram et al., 2025).

    codegraph detect DIR --config=mvtec_ad_2

DIR holds the eight categories (can, fabric, ...; page: https://www.mvtec.com/company/research/datasets/mvtec-ad-2), of
which `test_public` is read. CLIP ViT-L/14-336 at 518 px. The images are several times larger and many defects are
small: `--config.backbone.image_size=784` (any multiple of 14) detects more, at five times the cost.
Private test images have no labels; score them with `--config=folder`.
"""

from codegraph_jax.config import BackboneConfig, Config, DataConfig


def get_config() -> Config:
    """The settings of the run."""
    backbone = BackboneConfig(name="clip-vit-l14-336")
    return Config(data=DataConfig(layout="mvtec_ad_2"), backbone=backbone)
