"""OECL on HAM10000, skin lesions at 224 px: one diagnosis against the others.

    codegraph train --config=ham10000_oecl --out=runs/ham_0 --target=nv

data/ham10000 holds the unpacked training images (Tschandl et al. 2018, doi:10.1038/sdata.2018.161; Harvard
Dataverse doi:10.7910/DVN/DBW86T): HAM10000_metadata.csv (columns image_id and dx), and the images in folders below.
data/ham10000_test holds the test of the challenge ISIC 2018, task 3: ISIC2018_Task3_Test_GroundTruth.csv, with a
column for each diagnosis, and its images below. Missing images are reported before the images are decoded.
data/imagenet: as in imagenet30_oecl.py.

The paper (arXiv:2312.15288) uses this set. The split is that of the challenge, alpha = 0.1 that of the other sets
without objects; it has not been trained at full length. The diagnoses are akiec, bcc, bkl, df, mel, nv and vasc; nv
has two thirds of the images and df only 115, so the batch size is 64. nv: 6,700 images, 1,000 epochs: 290 PFLOP; by
count 12 minutes on an H100 or H200 at 40% of its bf16 peak. With all but one diagnosis as normal:
`--config.data.protocol=leave_one_class_out --epochs=500`.
"""

from contrastive_jax.config import ExposureConfig, OeclConfig, OeclDataConfig, at_224


def get_config() -> OeclConfig:
    """The settings of the run."""
    return at_224(
        OeclDataConfig(
            train="csv:data/ham10000/HAM10000_metadata.csv",
            train_split="",
            test="csv:data/ham10000_test/ISIC2018_Task3_Test_GroundTruth.csv",
            test_split="",
            target="nv",
            classes=("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"),
        ),
        ExposureConfig(source="data/imagenet", split="", image_count=20_000, alpha=0.1),
        batch_size=64,
    )
