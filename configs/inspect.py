"""Inspects new photos of a product one by one, with the reference bank of an earlier run.

    codegraph detect /photos/of/the/night --save-bank=parts.safetensors
    codegraph inspect parts.safetensors /new/photos

The first command is a detection that saves 32 of its images as references (`--config.bank.references`), without the
patches of recurring defects, and the threshold of the set. The second command scores every new image against them, with
the backbone and the settings of the bank; other weights are refused. It writes scores.csv, heat maps on the scale of
the set, masks and report.html, and a row of line.sqlite for each image.

For parts that arrive one by one, use `codegraph watch` or `codegraph serve`. A compact bank (--config.bank.kind=compact
with the first command) takes a tenth of the time or less per image (docs/line.md).

In addition to the backbone, an image takes 1.1 s of CPU time (ViT-S/14, 448 px, two blocks, 32 references; measured on
a busy machine; proportional to the references), or 0.8 s with a bank of bfloat16 products
(`--config.similarity.precision=bfloat16`); the file takes 1.6 MB per reference. It holds no photo and no path, but
features from which much of the photos can be guessed: protect it like the photos.
"""

from ml_collections import ConfigDict

from codegraph_jax.config import InspectConfig, to_config_dict


def get_config() -> ConfigDict:
    """The settings of the run."""
    return to_config_dict(InspectConfig())
