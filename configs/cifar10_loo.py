"""OECL on CIFAR-10, leave one class out: the other nine are normal, without labels; CIFAR-100 as outlier exposure.

    codegraph train --config=cifar10_loo --out=runs/loo_0 --target=0

Published (arXiv:2312.15288, mean over the ten classes, OE from 80 Million Tiny Images): OECL 94.6 AUROC, SimCLR with
the norm score 83.9, HSC 84.8, BCE 86.6 (--objective=simclr, hsc, bce). One class is 45,000 images for 500
epochs, 298 PFLOP; projected from that count: 13 minutes on an H100 or H200 at 40% of its bf16 peak. Sources of the
images as in cifar10_oecl.py.
"""

from contrastive_jax.config import ExposureConfig, ModelConfig, OeclConfig, OeclDataConfig, leave_one_class_out


def get_config() -> OeclConfig:
    """The settings of the run."""
    return leave_one_class_out(
        OeclConfig(
            data=OeclDataConfig(train="tfds:cifar10"),
            oe=ExposureConfig(source="tfds:cifar100"),
            model=ModelConfig(dtype="bfloat16"),
        )
    )
