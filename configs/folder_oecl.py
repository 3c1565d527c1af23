"""OECL on your own images at 224 px: a folder of normal images, a folder of OE images, optionally a labelled test.

    codegraph train NORMAL OTHER --out=runs/mine
    codegraph score runs/mine FOLDER --out=runs/mine_scored

NORMAL and OTHER hold images, or folders of images; OTHER may hold any images of something else. The second command
writes scores.csv for the images of FOLDER, larger = more normal. With a test of class folders, of which `good` holds
the normal images, the first command also tests: --config.data.test=TEST --target=good.

ResNet-18 with the ImageNet stem; images are resized to 256 px and cropped. The settings are the paper's
(arXiv:2312.15288) for ImageNet-30; for textures and cells (DIOR, Raabin-WBC) it uses --config.oe.alpha=0.1, and for the
latter --config.augment.crop_scale=0.5,1.0. A view takes 10.9 GFLOP per step: 1,000 normal images for 1,000 epochs are
34 PFLOP (768 images per epoch at batch 256, two views each, and the same number of OE images); projected from that
count: 1.4 minutes on an H100 or H200 at 40% of its bf16 peak, days on a CPU.
"""

from contrastive_jax.config import ExposureConfig, OeclConfig, OeclDataConfig, at_224


def get_config() -> OeclConfig:
    """The settings of the run."""
    return at_224(
        OeclDataConfig(train="", train_split="", test="none", test_split="", protocol="unlabelled", target="good"),
        ExposureConfig(source="", split=""),
    )
