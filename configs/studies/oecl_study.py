r"""Tables of OECL over classes and seeds, and studies of the number and the diversity of its OE images.

    codegraph oecl-study --config=oecl_study:cifar10_oecl --config.modes=oecl,simclr --out=runs/all
    codegraph oecl-study --config=oecl_study:few_shot --out=runs/few_shot
    codegraph oecl-study --config=oecl_study:diversity --out=runs/diversity

The first takes any training config (`cifar10_oecl`, `cifar10_oecl:laptop`, a file) and trains each mode on each class
of its training set; `--config.classes=0,3,7` and `--config.seeds=0,1,2` choose others. The other two are on CIFAR-10:
`few_shot` uses 1, 10, 100, 1,000 and all OE images (arXiv:2312.15288 has such curves, after Liznerski et al. 2022);
`diversity` takes OE images from 1, 5, 20 and all 100 classes of CIFAR-100. By the paper's abstract, contrastive
features help most if the OE images are not diverse. Both compare OECL with classifiers that use the same OE images
(`hsc`, `bce`). `--config.vary=FIELD --config.values=1,2` varies another setting of the runs.

Each prints a table of AUROC (or of another metric, `--config.metric=fpr95`), and writes study.json and a figure to the
workdir. Every run has its own folder there, and finished runs are skipped, so that an interrupted study resumes.

All ten classes: 150 runs of `few_shot`, by count 2.7 minutes each on an H100 or H200 (cifar10_oecl.py). On a laptop,
`--config=oecl_study:few_shot_small` and `--config=oecl_study:diversity_small`: class 7, with a third of the epochs of
`cifar10_oecl:laptop`, five minutes per run. Settings of the runs begin with `run`, such as
`--config.run.data.train=cifar10.npz --config.run.oe.source=cifar100.npz`; `diversity` needs labels of the OE source.
"""

from dataclasses import replace

import ml_collections

from codegraph_jax.commands.config_files import load_config
from codegraph_jax.config import to_config_dict
from codegraph_jax.core.errors import UserError
from contrastive_jax.config import read_oecl_config
from studies.oecl_study import StudyConfig

VARIED = {
    "few_shot": ("oe.images", ("1", "10", "100", "1000", "0")),
    "diversity": ("oe.class_count", ("1", "5", "20", "0")),
}


def get_config(variant: str = "few_shot") -> ml_collections.ConfigDict:
    """The settings of the study: `few_shot` or `diversity`, perhaps with the suffix `_small`, or a training config."""
    study, small = variant.removesuffix("_small"), variant.endswith("_small")
    if study not in VARIED:
        try:
            run = load_config(variant)
        except UserError:
            raise ValueError(f"the variants are {', '.join(VARIED)} and training configs, not {variant!r}") from None
        if run.task != "oecl":
            raise ValueError(f"{variant!r} is no training config; take one such as cifar10_oecl")
        return to_config_dict(StudyConfig(run=read_oecl_config(run)))
    vary, values = VARIED[study]
    run = read_oecl_config(load_config(f"cifar10_oecl:{'laptop' if small else 'published'}"))
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
