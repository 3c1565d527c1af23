"""Compares training modes over classes and seeds, with runs of any config.

    python -m studies.oecl_compare --config=configs/cifar10_oecl.py:small --workdir=runs/small \
        --modes=simclr,oecl --classes=0,3,7 --seeds=0,1,2

`--classes=all` runs every class of the training set, `--metric=fpr95` (or aupr_in, aupr_out) prints another metric, and
`--vary=oe.images --values=1,10,100` runs several values of a field. Every run has its own folder below the workdir;
finished runs are skipped, so that an interrupted comparison resumes. Any field of the config can be set as for main.py.
`configs/oecl_studies.py` has such comparisons as configs.
"""

import dataclasses
import logging
import sys

import jax
from absl import app, flags
from ml_collections import config_flags

from codegraph_jax.core.errors import UserError
from contrastive_jax.config import read_oecl_config
from contrastive_jax.evaluation.metrics import METRICS
from studies.oecl_study import read_study_config, run_study


def main(arguments: list[str]) -> int:
    """Runs the remaining runs and prints the table."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, force=True)
    values = flags.FLAGS
    try:
        study = read_study_config(
            {
                "modes": values.modes,
                "classes": values.classes,
                "seeds": [int(seed) for seed in values.seeds],
                "metric": values.metric,
                "vary": values.vary,
                "values": values["values"].value,
                "run": dataclasses.asdict(read_oecl_config(values.config)),
            }
        )
        run_study(study, values.workdir)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def define_flags() -> None:
    """Defines the flags; not on import, since main.py has flags of the same names."""
    config_flags.DEFINE_config_file("config", None, "Experiment: a file of configs/, perhaps with `:variant`.")
    flags.DEFINE_string("workdir", None, "Directory of the runs.")
    flags.DEFINE_list("modes", ["simclr", "oecl"], "Training modes.")
    flags.DEFINE_list("classes", ["0"], "Values of data.target; `all` runs every class of the training set.")
    flags.DEFINE_enum("metric", "auroc", list(METRICS), "The metric in the table.")
    flags.DEFINE_list("seeds", ["0"], "Seeds.")
    flags.DEFINE_string("vary", "", "A field that is varied, such as oe.images.")
    flags.DEFINE_list("values", [], "Its values.")


if __name__ == "__main__":
    define_flags()
    jax.config.config_with_absl()
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
