r"""OECL on ImageNet-30 at 224 px, one class against the rest; OE images from the other classes of ImageNet-1k.

    codegraph train --config=imagenet30_oecl --out=runs/imagenet30_0 --target=acorn

data/imagenet30 holds the folders train and test, each with the thirty folders of classes (acorn ... volcano; 1,300 and
100 images per class; Hendrycks et al. 2019, arXiv:1906.12340, whose repository ss-ood links the archive). data/imagenet
holds the training images of ImageNet-1k, in a folder per class with its WordNet number. Other places:
`--config.data.train=DIR --config.oe.source=DIR`. Missing classes are reported before the images are decoded.

The paper (arXiv:2312.15288) uses ImageNet-22k for OE; its code also offers ImageNet-1k without the thirty classes, as
here, of which 20,000 images are drawn (4 GB of memory at 256 px; `oe.image_count`). It has not been trained at full
length. One class is 1,280 images per epoch, 1,000 epochs: 57 PFLOP; by count 2.4 minutes on an H100 or H200 at 40%
of its bf16 peak. All thirty, in a sweep that resumes after an interruption:

    codegraph sweep --config=imagenet30_oecl --out=runs/imagenet30 --vary train.objective=simclr,oecl --classes=all

Leaving one class out, `--config=imagenet30_oecl:loo`: 37,700 images for 500 epochs, 840 PFLOP, 36 minutes; the images
take 7.4 GB of the host's memory and are streamed to the device.
"""

from typing import Literal

from contrastive_jax.config import ExposureConfig, OeclConfig, OeclDataConfig, at_224, leave_one_class_out

CLASSES = {
    "acorn": "n12267677",
    "airliner": "n02690373",
    "ambulance": "n02701002",
    "american_alligator": "n01698640",
    "banjo": "n02787622",
    "barn": "n02793495",
    "bikini": "n02837789",
    "digital_clock": "n03196217",
    "dragonfly": "n02268443",
    "dumbbell": "n03255030",
    "forklift": "n03384352",
    "goblet": "n03443371",
    "grand_piano": "n03452741",
    "hotdog": "n07697537",
    "hourglass": "n03544143",
    "manhole_cover": "n03717622",
    "mosque": "n03788195",
    "nail": "n03804744",
    "parking_meter": "n03891332",
    "pillow": "n03938244",
    "revolver": "n04086273",
    "rotary_dial_telephone": "n03187595",
    "schooner": "n04147183",
    "snowmobile": "n04252077",
    "soccer_ball": "n04254680",
    "stingray": "n01498041",
    "strawberry": "n07745940",
    "tank": "n04389033",
    "toaster": "n04442312",
    "volcano": "n09472597",
}
"""Folder and WordNet number of each class, as in the released code of OECL."""


def get_config(variant: Literal["", "loo"] = "") -> OeclConfig:
    """One class against the rest, or `loo`: one class left out."""
    config = at_224(
        OeclDataConfig(train="data/imagenet30", target="acorn", classes=tuple(CLASSES)),
        ExposureConfig(source="data/imagenet", split="", exclude=tuple(CLASSES.values()), image_count=20_000),
    )
    return leave_one_class_out(config) if variant == "loo" else config
