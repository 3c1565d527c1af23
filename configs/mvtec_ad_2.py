"""MVTec AD 2, the images whose labels are public (Heckler-Kram et al., 2025).

    codegraph detect DIR --config=mvtec_ad_2

DIR holds the eight categories (can, fabric, ...; page: https://www.mvtec.com/company/research/datasets/mvtec-ad-2), of
which `test_public` is read. CLIP ViT-L/14-336 at 518 px: the images are several times larger and many defects are
small, so that `--config.backbone.image_size=784` (every side a multiple of 14 works) sees more, at five times the cost.
Private test images have no labels; score them with `--config=folder`.
"""

from ml_collections import ConfigDict

from codegraph_jax.config import Config, DataConfig, to_config_dict


def get_config() -> ConfigDict:
    return to_config_dict(
        Config(
            data=DataConfig(layout="mvtec_ad_2"),
        )
    )
