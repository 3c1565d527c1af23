r"""OECL on CIFAR-100, one of its 20 superclasses against the rest, with CIFAR-10 as outlier exposure.

    codegraph train --config=cifar100_oecl --out=runs/cifar100_0 --target=0

Sources as in cifar10_oecl.py; `data.target` is a superclass by name (aquatic_mammals, fish, flowers, ...) or number. A
superclass has 2,500 training images, half of those of a class of CIFAR-10: 33 PFLOP, by count 1.4 minutes on an H100 or
H200 at 40% of its bf16 peak. All twenty, in a sweep that resumes after an interruption:

    codegraph sweep --config=cifar100_oecl --out=runs/cifar100 --classes=all

CIFAR-10 and CIFAR-100 have no class name in common, but both have animals, so this OE set is nearer than most.
`self_oecl` needs no OE set (`--objective=self_oecl`). It has not been trained at full length.
"""

from contrastive_jax.config import ExposureConfig, ModelConfig, OeclConfig, OeclDataConfig


def get_config() -> OeclConfig:
    """The settings of the run."""
    return OeclConfig(
        data=OeclDataConfig(train="tfds:cifar100#coarse_label"),
        oe=ExposureConfig(source="tfds:cifar10"),
        model=ModelConfig(dtype="bfloat16"),
    )
