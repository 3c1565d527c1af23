"""MPDD, metal parts with defects (Jezek et al., ICUMT 2021).

    codegraph detect DIR --config=mpdd

DIR holds the six categories (bracket_black, connector, ...; page: https://github.com/stepanje/MPDD). CLIP ViT-L/14-336
at 518 px. Poses, background and light vary, which is difficult for mutual scoring: it needs several similar images of
every normal part.
"""

from codegraph_jax.config import BackboneConfig, Config, DataConfig


def get_config() -> Config:
    """The settings of the run."""
    backbone = BackboneConfig(name="clip-vit-l14-336")
    return Config(data=DataConfig(layout="mvtec"), backbone=backbone)
