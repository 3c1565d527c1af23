"""Flags, the config's task, and how a run ends: `main.py` and the command `codegraph` both come here."""

import difflib
import importlib
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags
from ml_collections import config_flags

from codegraph_jax.commands.shipped import config_names, shipped_config
from codegraph_jax.core.errors import UserError

TASKS = {
    "detect": "codegraph_jax.tasks.detect",
    "inspect": "codegraph_jax.tasks.inspect",
    "watch": "codegraph_jax.tasks.watch",
    "serve": "codegraph_jax.tasks.serve",
    "parts": "codegraph_jax.tasks.parts",
    "extend": "codegraph_jax.tasks.extend",
    "export": "codegraph_jax.tasks.export",
    "choose": "codegraph_jax.tasks.choose",
    "recurring": "codegraph_jax.tasks.recurring",
    "thresholds": "codegraph_jax.tasks.thresholds",
    "looks": "codegraph_jax.tasks.looks",
    "benchmark": "codegraph_jax.tasks.benchmark",
    "oecl": "contrastive_jax.tasks.oecl",
    "oecl_score": "contrastive_jax.tasks.oecl_score",
    "oecl_study": "contrastive_jax.tasks.oecl_study",
}
"""The module whose `run(config, workdir)` does the task that a config names."""
FLAGGING = ("detect", "inspect")
"""The tasks whose outcomes say which images are flagged."""

GOING_ON = ("oecl", "oecl_study", "watch", "serve")
"""The tasks that keep what they have done whatever the settings."""

FINE, SOMETHING_FLAGGED, TO_MEND, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses; the second only where it is asked for."""

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Experiment: a file of configs/ or its name, perhaps with `:variant`."
)
COORDINATOR = flags.DEFINE_string(
    "coordinator", "", "Several hosts: HOST:PORT of process 0, or `auto` under Slurm, Kubernetes or on Cloud TPU."
)
PROCESSES = flags.DEFINE_integer("processes", 1, "With --coordinator=HOST:PORT: how many processes take part.")
PROCESS_ID = flags.DEFINE_integer("process_id", 0, "With --coordinator=HOST:PORT: which one this is, from 0.")
WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the results; default: runs/ and the config's name.")
EXIT_CODE = flags.DEFINE_boolean("exit_code", False, "End with status 1 when an image is flagged (also --exit-code).")


def launch(arguments: Sequence[str], tasks: Iterable[str] = TASKS) -> NoReturn:
    """Runs the config that the flags name and ends the process.

    A problem that the user can mend is one line and status 2; an interruption from the keyboard one line and 130.

    Args:
        arguments: the program's name and the flags, as `sys.argv` has them.
        tasks: those that the config may be for.
    """
    try:
        # ml_collections finds the overridden fields by looking into sys.argv
        sys.argv = [arguments[0], *(_spelt(word) for word in arguments[1:])]
        # only now, so that an interruption while JAX is loaded ends as any other does
        import jax

        jax.config.config_with_absl()
        flags.mark_flag_as_required("config")
        app.run(lambda rest: main(rest, tasks), flags_parser=parse)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(TO_MEND)
    except KeyboardInterrupt:
        _end_interrupted("before anything was computed")


def main(arguments: list[str], tasks: Iterable[str] = TASKS) -> int:
    """Hands over to the config's task; returns the exit status."""
    from codegraph_jax.core.programs import keep_programs
    from codegraph_jax.distributed.processes import joined

    keep_programs()
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, force=True)
    config = CONFIG.value
    try:
        if len(arguments) > 1:
            raise UserError(f"unexpected argument {arguments[1]!r}; set fields by --config.field=value")
        _check_task(config.task, tasks)
        with joined(COORDINATOR.value, PROCESSES.value, PROCESS_ID.value):
            outcomes = importlib.import_module(TASKS[config.task]).run(config, workdir(config.task))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return TO_MEND
    except KeyboardInterrupt:
        _end_interrupted(_how_to_go_on(config))
    if EXIT_CODE.value and any(outcome.result.calibration.flagged.any() for outcome in outcomes):
        return SOMETHING_FLAGGED
    return FINE


def workdir(task: str) -> str:
    """What the flag says, or `runs/` and the config file's name; scores do not go where a network was trained."""
    if WORKDIR.value:
        return str(Path(WORKDIR.value).expanduser())
    return str(Path("runs") / (Path(config_file()).stem + ("_scores" if task == "oecl_score" else "")))


def parse(arguments: list[str]) -> list[str]:
    """Reads the flags; a field, a variant or a config file that does not exist ends in one line and status 2."""
    try:
        rest = flags.FLAGS(arguments)
        CONFIG.value.task  # noqa: B018 (a config that cannot be loaded says so only when it is looked at)
        return rest
    except (
        flags.Error,
        AttributeError,
        KeyError,
        OSError,
        TypeError,
        ValueError,
    ) as error:  # as Python and ml_collections put it
        said = error.args[0].args[0] if isinstance(error.args[0], KeyError) else error.args[0]
        what = "--config: unknown field " if isinstance(error, AttributeError | KeyError) else ""
        print(f"error: {what}{' '.join(str(said).split())}", file=sys.stderr)
        sys.exit(TO_MEND)


def config_file() -> str:
    """The config file without its variant."""
    return config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")[0]


def _check_task(task: str, tasks: Iterable[str]) -> None:
    if task not in TASKS:
        raise UserError(f"config.task: {task!r} is not one of {', '.join(TASKS)}")
    if task not in tasks:
        raise UserError(f"--config={config_file()}: is for the task {task}, and this command is for {', '.join(tasks)}")
    if EXIT_CODE.value and task not in FLAGGING:
        raise UserError(f"--exit-code: goes with {' and '.join(FLAGGING)}; {task} flags no images")


def _how_to_go_on(config: Any) -> str:
    """What to do after an interruption."""
    if config.task in GOING_ON or config.get("resume", False):
        return "start the same command again to go on from what has been kept"
    return "nothing is kept of this run; start it again"


def _end_interrupted(what_now: str) -> NoReturn:
    """Says so on one line and ends at once: devices may still compute, and Python must not be taken down under them."""
    print(f"\ninterrupted; {what_now}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(INTERRUPTED)


def _spelt(word: str) -> str:
    """A word of the command line as absl understands it: dashes in `--exit-code`, names of configs that are shipped."""
    if word in ("--exit-code", "--noexit-code"):
        return word.replace("exit-code", "exit_code")
    if word.startswith("--config="):
        config = shipped_config(word.removeprefix("--config="))
        file = config.partition(":")[0]
        if not Path(file).is_file():
            close = difflib.get_close_matches(file, config_names(), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UserError(f"--config={file}: no such file{hint}")
        return f"--config={config}"
    return word
