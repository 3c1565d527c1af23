"""The demo of OECL: a narrow network is trained on one class of drawn shapes, with drawn textures as OE images.

    codegraph train --config=oecl_demo --out=runs/oecl_demo

Nothing is downloaded. The network is trained on discs, and on textures whose norm is minimised; the test compares discs
with seven other shapes. Expected: the AUROC of the clean view rises from 45 (untrained) to above 70 in 30 epochs (72 to
74, depending on rounding); see learning_curve.png in the workdir. Under two minutes on one CPU core.
"""

from contrastive_jax.config import (
    EvaluationConfig,
    ExposureConfig,
    ModelConfig,
    OeclConfig,
    OeclDataConfig,
    TrainConfig,
)


def get_config() -> OeclConfig:
    """The settings of the run."""
    return OeclConfig(
        data=OeclDataConfig(train="patterns", target="disc", stored_size=16, image_size=16),
        oe=ExposureConfig(source="patterns", split="oe", warmup=0.2),
        model=ModelConfig(width=8),
        train=TrainConfig(epochs=30, batch_size=64),
        evaluation=EvaluationConfig(views=8, test_every=2),
    )
