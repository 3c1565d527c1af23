"""Self-OECL on CIFAR-10: the OE images are the normal images, rotated by 180 and 270 degrees.

    codegraph train --config=cifar10_self_oecl --out=runs/self_oecl_0 --target=0

Published (arXiv:2312.15288, mean over the ten classes, one-vs-rest): 94.7 AUROC. Normal views rotated by 0 and 90
degrees are separate instances, so that a step has twice the views of OECL: one class is 130 PFLOP, projected from
that count 5.5 minutes on an H100 or H200 at 40% of its bf16 peak. Sources of the images as in cifar10_oecl.py.
"""

from contrastive_jax.config import ModelConfig, OeclConfig, OeclDataConfig, TrainConfig


def get_config() -> OeclConfig:
    """The settings of the run."""
    return OeclConfig(
        data=OeclDataConfig(train="tfds:cifar10"),
        model=ModelConfig(dtype="bfloat16"),
        train=TrainConfig(objective="self_oecl"),
    )
