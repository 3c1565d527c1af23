"""The baseline without outlier exposure on CIFAR-10: SimCLR, scored by the norm, one class against the rest.

    codegraph train --config=cifar10_simclr --out=runs/simclr_0 --target=0

The paper has no one-vs-rest result for the norm alone (CSI, which adds a classifier of shifts: 94.3). With one class
left out, SimCLR with the norm score has 83.9 (--config.data.protocol=leave_one_class_out --epochs=500).
Sources of the images as in cifar10_oecl.py. One class is 32 PFLOP, half of OECL's, since there are no OE images;
projected from that count: 1.4 minutes on an H100 or H200 at 40% of its bf16 peak.
"""

from contrastive_jax.config import ModelConfig, OeclConfig, OeclDataConfig, TrainConfig


def get_config() -> OeclConfig:
    """The settings of the run."""
    return OeclConfig(
        data=OeclDataConfig(train="tfds:cifar10"),
        model=ModelConfig(dtype="bfloat16"),
        train=TrainConfig(objective="simclr"),
    )
