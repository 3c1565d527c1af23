"""OECL on Raabin-WBC, white blood cells at 224 px: one kind of cell against the others.

    codegraph train --config=raabin_wbc_oecl --out=runs/wbc_0 --target=Neutrophil

data/raabin_wbc holds the cropped, double-labelled cells, unpacked (Kouzehkanan et al. 2022,
doi:10.1038/s41598-021-04426-x; raabindata.com): the folders Train and TestA, each with the folders Basophil,
Eosinophil, Lymphocyte, Monocyte and Neutrophil. Folders of other names: `--config.data.train_split=train
--config.data.test_split=test_A`. data/imagenet: as in imagenet30_oecl.py.

alpha = 0.1 and crops of 50 to 100% of the area are the paper's (arXiv:2312.15288). The OE images are our choice. It
has not been trained at full length. The rarest kinds have fewer than 256 training images, so the batch size is 128. A
kind of 2,400 cells, 2,304 of them per epoch, 1,000 epochs: 100 PFLOP; by count 4 minutes on an H100 or H200 at 40%
of its bf16 peak.
"""

from contrastive_jax.config import AugmentConfig, ExposureConfig, OeclConfig, OeclDataConfig, at_224


def get_config() -> OeclConfig:
    """The settings of the run."""
    classes = ("Basophil", "Eosinophil", "Lymphocyte", "Monocyte", "Neutrophil")
    return at_224(
        OeclDataConfig(
            train="data/raabin_wbc", train_split="Train", test_split="TestA", target="Neutrophil", classes=classes
        ),
        ExposureConfig(source="data/imagenet", split="", image_count=20_000, alpha=0.1),
        AugmentConfig(crop_scale=(0.5, 1.0)),
        batch_size=128,
    )
