"""Entry point: `python main.py --config=configs/mvtec.py --workdir=runs/mvtec --config.data.root=DIR`."""

import importlib
import logging
import sys
from pathlib import Path

import jax
from absl import app, flags
from ml_collections import config_flags

TASKS = {
    "detect": "codegraph_jax.tasks.detect",
    "inspect": "codegraph_jax.tasks.inspect",
    "recurring": "codegraph_jax.tasks.recurring",
    "thresholds": "codegraph_jax.tasks.thresholds",
    "benchmark": "codegraph_jax.tasks.benchmark",
    "oecl": "contrastive_jax.tasks.oecl",
    "oecl_score": "contrastive_jax.tasks.oecl_score",
}
"""The module whose `run(config, workdir)` does the task that a config names."""

CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment: a file of configs/, perhaps with `:variant`.")
COORDINATOR = flags.DEFINE_string(
    "coordinator", "", "Several hosts: HOST:PORT of process 0, or `auto` under Slurm, Kubernetes or on Cloud TPU."
)
PROCESSES = flags.DEFINE_integer("processes", 1, "With --coordinator=HOST:PORT: how many processes take part.")
PROCESS_ID = flags.DEFINE_integer("process_id", 0, "With --coordinator=HOST:PORT: which one this is, from 0.")
WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the results; default: runs/ and the config's name.")


def main(arguments: list[str]) -> int:
    """Hands over to the config's task; a problem that the user can mend ends in one line and status 2."""
    from codegraph_jax.core.errors import UserError
    from codegraph_jax.distributed.processes import joined

    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, force=True)
    config = CONFIG.value
    try:
        if len(arguments) > 1:
            raise UserError(f"unexpected argument {arguments[1]!r}; set fields by --config.field=value")
        if config.task not in TASKS:
            raise UserError(f"config.task: {config.task!r} is not one of {', '.join(TASKS)}")
        with joined(COORDINATOR.value, PROCESSES.value, PROCESS_ID.value):
            importlib.import_module(TASKS[config.task]).run(config, WORKDIR.value or default_workdir())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def default_workdir() -> str:
    """`runs/` and the config file's name."""
    return str(Path("runs") / Path(config_file()).stem)


def parse(arguments: list[str]) -> list[str]:
    """Reads the flags; a field, a variant or a config file that does not exist ends in one line and status 2."""
    try:
        rest = app.parse_flags_with_usage(arguments)
        if not Path(config_file()).is_file():
            raise ValueError(f"--config={config_file()}: no such file")
        CONFIG.value.task  # noqa: B018 (a config that cannot be loaded says so only when it is looked at)
        return rest
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:  # as Python and ml_collections put it
        said = error.args[0].args[0] if isinstance(error.args[0], KeyError) else error.args[0]
        what = "--config: unknown field " if isinstance(error, AttributeError | KeyError) else ""
        print(f"error: {what}{' '.join(str(said).split())}", file=sys.stderr)
        sys.exit(2)


def config_file() -> str:
    """The config file without its variant."""
    return config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")[0]


if __name__ == "__main__":
    jax.config.config_with_absl()
    flags.mark_flag_as_required("config")
    app.run(main, flags_parser=parse)
