"""Real-IAD (Wang et al., CVPR 2024), single images.

    codegraph detect DIR --config=real_iad --config.data.categories=audiojack

DIR holds realiad_jsons/ and realiad_256, realiad_512 or realiad_1024 (page: https://realiad4ad.github.io/Real-IAD/); of
several sizes the largest is used. CLIP ViT-L/14-336 at 518 px. A category has thousands of test images from five
cameras: each is compared with 64 of them, which takes 1 MB of distances per image and layer instead of 16 MB for every
thousand images. Without `data.categories`, all 30 objects run one after the other.
"""

from ml_collections import ConfigDict

from codegraph_jax.config import BackboneConfig, Config, DataConfig, SimilarityConfig, to_config_dict


def get_config() -> ConfigDict:
    """The settings of the run."""
    backbone = BackboneConfig(name="clip-vit-l14-336")
    return to_config_dict(
        Config(data=DataConfig(layout="real_iad"), backbone=backbone, similarity=SimilarityConfig(references=64))
    )
