r"""OECL on CIFAR-10, one class against the rest, with CIFAR-100 as outlier exposure.

    codegraph train --config=cifar10_oecl --out=runs/oecl_0 --target=0

CIFAR-10 and CIFAR-100 come from tensorflow-datasets, prepared once (the error message says how), or from arrays:

    --config.data.train=cifar10.npz --config.oe.source=cifar100.npz    (x_train, y_train, x_test, y_test)

Published (arXiv:2312.15288, mean over the ten classes): 97.8 AUROC with 80 Million Tiny Images, which are withdrawn;
other OE images give other results. One class is 65 PFLOP. Projected from that count, not measured: 2.7 minutes on an
H100 or H200 at 40% of its bf16 peak, 5.5 at 20%; days on a CPU.

The variant `laptop` takes 17 minutes of one core (16 px, width 16, 36 epochs): AUROC of mean_feature 90.2 for airplane,
73.3 for cat, and 96.7 for horse with 128 epochs, an hour (docs/benchmarks.md), with

    codegraph sweep --config=cifar10_oecl:laptop --out=runs/laptop --vary train.objective=simclr,oecl --classes=0,3,7

which resumes after an interruption. `--config=cifar10_oecl:small` takes under three minutes (4 epochs) and shows only
the order of the methods: AUROC of the clean view over classes 0, 3, 7 and three seeds, simclr 44.8, oecl 63.0.
"""

from typing import Literal

from contrastive_jax.config import (
    AugmentConfig,
    EvaluationConfig,
    ExposureConfig,
    ModelConfig,
    OeclConfig,
    OeclDataConfig,
    TrainConfig,
)


def get_config(variant: Literal["published", "laptop", "small"] = "published") -> OeclConfig:
    """The settings of the run: `published`, `laptop` or `small`."""
    if variant == "laptop":
        return OeclConfig(
            data=OeclDataConfig(train="tfds:cifar10", stored_size=32, image_size=16),
            oe=ExposureConfig(source="tfds:cifar100", warmup=0.3),
            augment=AugmentConfig(crop_scale=(0.3, 1.0)),
            model=ModelConfig(width=16),
            train=TrainConfig(epochs=36, batch_size=64),
            evaluation=EvaluationConfig(views=8, test_every=4),
        )
    if variant == "small":
        return OeclConfig(
            data=OeclDataConfig(train="tfds:cifar10", stored_size=32, image_size=16),
            oe=ExposureConfig(source="tfds:cifar100", warmup=0.3),
            model=ModelConfig(width=16),
            train=TrainConfig(epochs=4, batch_size=64),
            evaluation=EvaluationConfig(views=4, image_count=2000),
        )
    return OeclConfig(
        data=OeclDataConfig(train="tfds:cifar10"),
        oe=ExposureConfig(source="tfds:cifar100"),
        model=ModelConfig(dtype="bfloat16"),
    )
