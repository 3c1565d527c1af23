"""BTAD, the beanTech anomaly detection set (Mishra et al., ISIE 2021), with the settings of MuSc.

    codegraph detect DIR --config=btad

DIR holds 01, 02 and 03 (page: https://github.com/pankajmishra000/VT-ADL). CLIP ViT-L/14-336 at 518 px; a pixel of the
resized mask is anomalous if it is fully covered, as in MuSc (arXiv:2401.16753). Category 03 has 441 test images, whose
distances take 13 GB of memory, or 6 GB with `--config.similarity.references=200`.
"""

from codegraph_jax.config import BackboneConfig, Config, DataConfig, MetricsConfig


def get_config() -> Config:
    """The settings of the run."""
    backbone = BackboneConfig(name="clip-vit-l14-336")
    return Config(data=DataConfig(layout="btad"), backbone=backbone, metrics=MetricsConfig(mask_resizing="full"))
