"""An image set of tensorflow-datasets, prepared as array_record or parquet: every split is a category.

    codegraph detect tfds:NAME --config=tfds --config.data.categories=test

The root is `tfds:` and a name (in full `tfds:NAME/CONFIG:VERSION`) of a set in `TFDS_DATA_DIR` or
~/tensorflow_datasets, or the directory of a prepared version. Reading needs no TensorFlow; preparing may, and the error
message for a missing set has the command. Catalogue: https://www.tensorflow.org/datasets/catalog/overview

For metrics, `--good=class_a,class_b` names the normal classes; the others are anomalous, and the
method does not use the labels. DINOv2 ViT-B/14 at 518 px, as for your own folder; small images need a smaller
`--config.backbone.image_size`. No result is given; the method needs a set that shows a single product.
"""

from codegraph_jax.config import BackboneConfig, Config, DataConfig


def get_config() -> Config:
    """The settings of the run."""
    return Config(data=DataConfig(layout="tfds"), backbone=BackboneConfig(image_size=518))
