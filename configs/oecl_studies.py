"""Studies of outlier exposure on CIFAR-10: how much of it is needed, and how diverse it has to be.

    codegraph train --config=oecl_studies:few_shot --out=runs/few_shot
    codegraph train --config=oecl_studies:diversity --out=runs/diversity

`few_shot`: 1, 10, 100, 1,000 and all OE images (arXiv:2312.15288 has such curves, after Liznerski et al. 2022).
`diversity`: OE from 1, 5, 20 and all 100 classes of CIFAR-100; the paper's abstract says that contrastive features help
most where the exposure is not diverse. Both hold OECL against the classifiers that take the same exposure (`hsc`,
`bce`). The table of AUROC (`--config.metric=fpr95` shows another number), study.json and study.png, a curve for each
mode, go to the workdir; an interrupted study goes on where it stopped.

All ten classes: 150 runs of `few_shot`, by count 2.7 minutes each on an H100 or H200 (cifar10_oecl.py). On a laptop,
`--config=oecl_studies:few_shot_small` and `--config=oecl_studies:diversity_small`: class 7 by a third of the runs
that cifar10_oecl.py has for laptops, five minutes each. Sources as there: `--config.run.data.train=cifar10.npz
--config.run.oe.source=cifar100.npz`; `diversity` needs labels of the OE source.
"""

from dataclasses import replace

import ml_collections

from codegraph_jax.config import to_config_dict
from configs import cifar10_oecl
from contrastive_jax.config import read_oecl_config
from studies.oecl_study import StudyConfig

VARIED = {
    "few_shot": ("oe.few_shot", ("1", "10", "100", "1000", "0")),
    "diversity": ("oe.class_count", ("1", "5", "20", "0")),
}


def get_config(variant: str = "few_shot") -> ml_collections.ConfigDict:
    """`few_shot` or `diversity`, and either with `_small` behind."""
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
