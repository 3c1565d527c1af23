"""Inspects new photos of a product one by one, with the reference bank of an earlier run.

    codegraph detect /photos/of/the/night --save-bank=parts.safetensors
    codegraph inspect parts.safetensors /new/photos

The first command saves a bank of 1,024 patches, without those of recurring defects, and the threshold of the set;
`--config.bank.kind=exact` stores 32 whole images instead, which takes ten times as long per image or more
(docs/line.md). The second command scores every new image against the bank, with its backbone and settings; other
weights are refused. It writes scores.csv, heat maps on the scale of the set, masks and report.html, and a row of
line.sqlite for each image.

For parts that arrive one by one, use `codegraph watch` or `codegraph serve`. The bank holds no photo and no path, but
features from which much of the photos can be guessed: protect it like the photos.
"""

from ml_collections import ConfigDict

from codegraph_jax.config import InspectConfig, to_config_dict


def get_config() -> ConfigDict:
    """The settings of the run."""
    return to_config_dict(InspectConfig())
