"""Studies of outlier exposure on CIFAR-10: the number and the diversity of the OE images.

    codegraph oecl-studies --config=oecl_studies:few_shot --out=runs/few_shot
    codegraph oecl-studies --config=oecl_studies:diversity --out=runs/diversity

`few_shot`: 1, 10, 100, 1,000 and all OE images (arXiv:2312.15288 has such curves, after Liznerski et al. 2022).
`diversity`: OE from 1, 5, 20 and all 100 classes of CIFAR-100; by the paper's abstract, contrastive features help most
if the OE images are not diverse. Both compare OECL with classifiers that use the same OE images (`hsc`, `bce`). They
print a table of AUROC (or of another metric, `--config.metric=fpr95`), and write study.json and study.png, with a curve
for each mode, to the workdir; an interrupted study resumes.

All ten classes: 150 runs of `few_shot`, by count 2.7 minutes each on an H100 or H200 (cifar10_oecl.py). On a laptop,
`--config=oecl_studies:few_shot_small` and `--config=oecl_studies:diversity_small`: class 7, with a third of the
epochs of `cifar10_oecl:laptop`, five minutes per run. Sources as there: `--config.run.data.train=cifar10.npz
--config.run.oe.source=cifar100.npz`; `diversity` needs labels of the OE source.
"""

from dataclasses import replace

import ml_collections

from codegraph_jax.config import to_config_dict
from configs import cifar10_oecl
from contrastive_jax.config import read_oecl_config
from studies.oecl_study import StudyConfig

VARIED = {
    "few_shot": ("oe.images", ("1", "10", "100", "1000", "0")),
    "diversity": ("oe.class_count", ("1", "5", "20", "0")),
}


def get_config(variant: str = "few_shot") -> ml_collections.ConfigDict:
    """The settings of the study: `few_shot`, `diversity`, or one of them with the suffix `_small`."""
    study, small = variant.removesuffix("_small"), variant.endswith("_small")
    if study not in VARIED:
        raise ValueError(f"no variant {variant!r}; there are {', '.join(VARIED)}, _small too")
    vary, values = VARIED[study]
    run = read_oecl_config(cifar10_oecl.get_config("laptop" if small else "published"))
    if small:
        run = replace(run, train=replace(run.train, epochs=12))
    return to_config_dict(
        StudyConfig(
            modes=("oecl", "hsc", "bce"),
            classes=("7",) if small else ("all",),
            vary=vary,
            values=values,
            run=run,
        )
    )
