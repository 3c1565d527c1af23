"""MVTec LOCO AD, structural and logical anomalies (Bergmann et al., IJCV 2022).

    codegraph detect DIR --config=mvtec_loco

DIR holds the five categories (breakfast_box, juice_bottle, ...; page:
https://www.mvtec.com/company/research/datasets/mvtec-loco). CLIP ViT-L/14-336 at 518 px; a test image's masks, one a
defect, are joined. Structural anomalies are what patches can see; a logical one (a part too many, a part missing)
shows only where it looks unlike anything in the other images. The metrics are AUROC, AP, F1-max and AUPRO, not the
publication's saturated overlap (sPRO). A category of 330 images holds 7 GB of distances in memory.
"""

from ml_collections import ConfigDict

from codegraph_jax.config import Config, DataConfig, to_config_dict


def get_config() -> ConfigDict:
    return to_config_dict(
        Config(
            data=DataConfig(layout="mvtec_loco"),
        )
    )
