"""The command `codegraph sweep`: runs a config with every combination of the values of `--vary`."""

from typing import Any, NoReturn

from absl import flags

from codegraph_jax.commands.launch import WORKDIR, launch
from codegraph_jax.commands.registry import COMMANDS
from studies.flags import define_vary, sweep_arguments
from studies.sweeps import detection, training

SWEEPS = {"detect": detection, "oecl": training}
"""The module that sweeps over the settings of each task."""


def main(*words: str) -> NoReturn:
    """Runs the command, and exits."""
    define_vary()
    launch(["codegraph sweep", *words], COMMANDS["sweep"], run)


def run(config: Any, workdir: str) -> None:
    """Runs the sweep."""
    sweep: Any = SWEEPS[config.task]
    directory = workdir if WORKDIR.value else f"{workdir}-sweep"
    sweep.run(config, directory, flags.FLAGS.vary, **sweep_arguments(sweep.REFUSED))
