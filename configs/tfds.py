"""An image set of tensorflow-datasets, prepared as array_record or parquet: every split is a category.

    codegraph detect tfds:NAME --config=tfds --config.data.categories=test

The root is `tfds:` and a name (`tfds:NAME/CONFIG:VERSION` in full), looked for in `TFDS_DATA_DIR` or
~/tensorflow_datasets, or the directory of a prepared version. Reading needs no TensorFlow; preparing may, and the error
that a set which is not there gives holds the command. Catalogue: https://www.tensorflow.org/datasets/catalog/overview

For metrics, `--config.data.normal="('class_a','class_b')"` says which classes are normal; the others are anomalous, and
the method sees none of it. DINOv2 ViT-B/14 at 518 px, as for a folder of one's own; small pictures want a smaller
`--config.backbone.image_size`. No number is claimed: which set shows one product depends on the set.
"""

from ml_collections import ConfigDict

from codegraph_jax.config import BackboneConfig, Config, DataConfig, to_config_dict


def get_config() -> ConfigDict:
    return to_config_dict(
        Config(data=DataConfig(layout="tfds"), backbone=BackboneConfig(name="dinov2-base", image_size=518))
    )
