"""Kolektor's surface defects: KolektorSDD2 or KolektorSDD, depending on DIR.

    codegraph detect DIR --config=kolektor

Pages: https://www.vicos.si/resources/kolektorsdd2/ and https://www.vicos.si/resources/kolektorsdd/ (Bozic et al. 2021,
Tabernik et al. 2020). CLIP ViT-L/14-336 at 518 px; the tall images are resized to a square, as the method is defined.
Each of KolektorSDD2's 1,004 test images is compared with 100 of them: 7 GB of distances instead of 66.
"""

from codegraph_jax.config import BackboneConfig, Config, DataConfig, SimilarityConfig


def get_config() -> Config:
    """The settings of the run."""
    backbone = BackboneConfig(name="clip-vit-l14-336")
    return Config(data=DataConfig(layout="kolektor"), backbone=backbone, similarity=SimilarityConfig(references=100))
