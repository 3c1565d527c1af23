"""Real-IAD (Wang et al., CVPR 2024), single images.

    codegraph detect DIR --config=real_iad --config.data.categories=audiojack

DIR holds realiad_jsons/ and realiad_256, realiad_512 or realiad_1024 (page: https://realiad4ad.github.io/Real-IAD/); of
several sizes the largest is used. CLIP ViT-L/14-336 at 518 px. A category has thousands of test images from five
cameras: each is compared with 64 of them. The distances then take 1 MB per image and layer; in a set of 1,000 images
compared with all, they would take 16 MB. Without `data.categories`, all 30 objects run one after the other.
"""

from codegraph_jax.config import BackboneConfig, Config, DataConfig, SimilarityConfig


def get_config() -> Config:
    """The settings of the run."""
    backbone = BackboneConfig(name="clip-vit-l14-336")
    return Config(data=DataConfig(layout="real_iad"), backbone=backbone, similarity=SimilarityConfig(references=64))
