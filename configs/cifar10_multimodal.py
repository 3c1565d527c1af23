"""OECL on all of CIFAR-10, without labels, against named sets that are out of distribution.

    codegraph train --config=cifar10_multimodal --out=runs/multimodal

Near: CIFAR-100 and Tiny ImageNet; far: SVHN, Textures (DTD) and Places365. results.json has AUROC, AUPR and FPR95 of
each set with intervals (`ood`), and of all together. CIFAR, `svhn_cropped`, `dtd` and `places365_small` come from
tensorflow-datasets, prepared once; data/tiny-imagenet-200 is the archive as it is unpacked, of which val/images is
read. Sets of one's own: `--config.evaluation.ood="('near=DIR1', 'far@test=tfds:svhn_cropped')"`, names and sources, `@`
before a split.

The exposure is ImageNet at 32 px (tensorflow-datasets' `imagenet_resized/32x32`), 300,000 images of it, since CIFAR-100
is tested against; Tiny ImageNet's classes are among its own, so that its number flatters: leave that set out, or expose
to the 300K random images (`--config.oe.source=300K_random_images.npy --config.oe.split=""`; Hendrycks et al. 2019,
arXiv:1812.04606). `--config.train.mode=simclr` needs none. The paper's table (arXiv:2312.15288) could not be opened, so
that no number stands here. 50,000 images for 500 epochs: 333 PFLOP; by count 14 minutes on an H100 or H200 at 40 % of
its bf16 peak, and the tests of 67,000 images with 33 views one more.
"""

import ml_collections

from codegraph_jax.config import to_config_dict
from contrastive_jax.config import (
    DataConfig,
    EvaluationConfig,
    ExposureConfig,
    ModelConfig,
    OeclConfig,
    TrainConfig,
)


def get_config() -> ml_collections.ConfigDict:
    """The settings of the run."""
    sets = (
        "cifar100@test=tfds:cifar100",
        "tiny_imagenet=data/tiny-imagenet-200/val/images",
        "svhn@test=tfds:svhn_cropped",
        "textures@test=tfds:dtd",
        "places365@validation=tfds:places365_small",
    )
    return to_config_dict(
        OeclConfig(
            data=DataConfig(train="tfds:cifar10", protocol="multimodal"),
            oe=ExposureConfig(source="tfds:imagenet_resized/32x32", few_shot=300_000),
            model=ModelConfig(dtype="bfloat16"),
            train=TrainConfig(epochs=500),
            evaluation=EvaluationConfig(ood=sets),
        )
    )
