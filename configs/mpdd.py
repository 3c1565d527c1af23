"""MPDD, metal parts with defects (Jezek et al., ICUMT 2021).

    codegraph detect DIR --config=mpdd

DIR holds the six categories (bracket_black, connector, ...; page: https://github.com/stepanje/MPDD). CLIP ViT-L/14-336
at 518 px. Parts lie in several poses, and the background and the light change: the hard case for mutual scoring, which
needs every normal part several times in the set.
"""

from ml_collections import ConfigDict

from codegraph_jax.config import Config, DataConfig, to_config_dict


def get_config() -> ConfigDict:
    return to_config_dict(
        Config(
            data=DataConfig(layout="mpdd"),
        )
    )
