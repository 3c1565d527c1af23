"""OECL on DIOR, aerial images at 224 px: objects of one class against those of the other classes.

    codegraph train --config=dior_oecl --out=runs/dior_0 --target=airport

data/dior is the unpacked set (Li et al. 2020, doi:10.1016/j.isprsjprs.2019.11.023; the authors' page
gcheng-nwpu.github.io links it): Annotations (horizontal boxes, XML), JPEGImages-trainval, JPEGImages-test, and the
lists of names train.txt, val.txt and test.txt in ImageSets/Main. Objects are cut out along their boxes; those with a
side below 120 px are left out. data/imagenet: as in imagenet30_oecl.py.

The nineteen classes (without vehicles) are those of OECL's released code, which reads cut objects and does not state
how they were cut; the limit of 120 px is our choice. alpha = 0.1 is the paper's (arXiv:2312.15288); the OE images are
our choice. It has not been trained at full length. A class of 650 objects, 512 of them per epoch, 1,000 epochs: 23
PFLOP; by count one minute on an H100 or H200 at 40% of its bf16 peak. A class with fewer objects than a batch needs
a smaller one, such as `--config.train.batch_size=64`. Without OE: `--objective=self_oecl`.
"""

from contrastive_jax.config import ExposureConfig, OeclConfig, OeclDataConfig, at_224

CLASSES = (
    "ship",
    "tenniscourt",
    "baseballfield",
    "groundtrackfield",
    "dam",
    "bridge",
    "trainstation",
    "harbor",
    "golffield",
    "Expressway-toll-station",
    "overpass",
    "basketballcourt",
    "airport",
    "airplane",
    "storagetank",
    "Expressway-Service-area",
    "stadium",
    "windmill",
    "chimney",
)


def get_config() -> OeclConfig:
    """The settings of the run."""
    objects = OeclDataConfig(
        train="voc:data/dior", train_split="train+val", target="airport", classes=CLASSES, min_box_side=120
    )
    return at_224(objects, ExposureConfig(source="data/imagenet", split="", image_count=20_000, alpha=0.1))
