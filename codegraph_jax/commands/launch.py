"""Flags, the config's task, and how a run ends: `main.py` and the command `codegraph` both come here."""

import importlib
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags
from ml_collections import config_flags

import codegraph_jax
from codegraph_jax.commands.shipped import clone_root, load_config, shipped_config
from codegraph_jax.commands.words import Line, config_of, understood
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.names import file_stem
from codegraph_jax.core.output import steady_output
from codegraph_jax.core.settings import Setting, settings_of

TASKS = {
    "detect": "codegraph_jax.tasks.detect",
    "inspect": "codegraph_jax.tasks.inspect",
    "watch": "codegraph_jax.tasks.watch",
    "serve": "codegraph_jax.tasks.serve",
    "parts": "codegraph_jax.tasks.parts",
    "extend": "codegraph_jax.tasks.extend",
    "export": "codegraph_jax.tasks.export",
    "choose": "codegraph_jax.tasks.choose",
    "recurring": "studies.recurring",
    "thresholds": "studies.thresholds",
    "looks": "studies.looks",
    "benchmark": "benchmarks.benchmark",
    "oecl": "contrastive_jax.tasks.oecl",
    "oecl_score": "contrastive_jax.tasks.oecl_score",
    "oecl_study": "studies.oecl_study",
}
"""The module whose `run(config, workdir)` does the task that a config names; benchmarks and studies only in a clone."""
if not clone_root():
    TASKS = {task: module for task, module in TASKS.items() if not module.startswith(("benchmarks.", "studies."))}
SETTINGS = {
    "detect": "codegraph_jax.config:Config",
    "inspect": "codegraph_jax.config:InspectConfig",
    "watch": "codegraph_jax.line.settings:WatchConfig",
    "serve": "codegraph_jax.line.settings:ServeConfig",
    "parts": "codegraph_jax.line.settings:PartsConfig",
    "extend": "codegraph_jax.config:ExtendConfig",
    "export": "codegraph_jax.config:ExportConfig",
    "choose": "codegraph_jax.tasks.choose:ChooseConfig",
    "recurring": "studies.recurring:StudyConfig",
    "thresholds": "studies.thresholds:ThresholdStudyConfig",
    "looks": "studies.looks:LooksStudyConfig",
    "benchmark": "benchmarks.settings:BenchmarkConfig",
    "oecl": "contrastive_jax.config:OeclConfig",
    "oecl_score": "contrastive_jax.config:ScoreConfig",
    "oecl_study": "studies.oecl_study:StudyConfig",
}
"""The dataclass that a task reads its settings into."""
FOLDERS = {"detect": "data.root", "inspect": "data.root", "choose": "data.root", "oecl_score": "images"}
"""The setting that names the photos of a task, whose default workdir is named after them."""
FLAGGING = ("detect", "inspect")
"""The tasks whose outcomes say which images are flagged."""

GOING_ON = ("oecl", "oecl_study", "watch", "serve")
"""The tasks that keep what they have done whatever the settings."""

FINE, SOMETHING_FLAGGED, TO_MEND, NOT_JUDGED, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit statuses; the second and fourth only where it is asked for."""

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Experiment: a file of configs/ or its name, perhaps with `:variant`."
)
COORDINATOR = flags.DEFINE_string(
    "coordinator", "", "Several hosts: HOST:PORT of process 0, or `auto` under Slurm, Kubernetes or on Cloud TPU."
)
PROCESSES = flags.DEFINE_integer("processes", 1, "With --coordinator=HOST:PORT: how many processes take part.")
PROCESS_ID = flags.DEFINE_integer("process_id", 0, "With --coordinator=HOST:PORT: which one this is, from 0.")
WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the results (also --out); default: runs/ and a name.")
EXIT_CODE = flags.DEFINE_boolean(
    "exit_code", False, "End with status 1 if an image is flagged, 3 if too few to judge (--exit-code)."
)


def launch(
    arguments: Sequence[str], tasks: Iterable[str] = TASKS, config: str = "", places: Sequence[str] = ()
) -> NoReturn:
    """Runs the config that the flags name and ends the process.

    A problem that the user can mend is one line and status 2; an interruption from the keyboard one line and 130.

    Args:
        arguments: the program's name and the words after it, as `sys.argv` has them.
        tasks: those that the config may be for.
        config: the config where the words name none; empty: they have to.
        places: the settings that words which are no flags stand for.
    """
    steady_output()
    line = Line([], {})
    try:
        if "--version" in arguments[1:]:
            print(f"codegraph-jax {codegraph_jax.__version__}")
            sys.exit(FINE)
        # only now, so that an interruption while JAX is loaded ends as any other does
        import jax

        from codegraph_jax.core.environment import remember_command

        jax.config.config_with_absl()
        line = absl_words(arguments[1:], tasks, config, places)
        program = arguments[0].split(" ") if arguments[0].startswith("codegraph ") else ["python", arguments[0]]
        remember_command([*program, *arguments[1:]])
        # ml_collections finds the overridden fields by looking into sys.argv
        sys.argv = [arguments[0], *line.flags]
        app.run(lambda rest: main(rest, line), flags_parser=parse)
    except UserError as error:
        print(f"error: {line.named(str(error))}", file=sys.stderr)
        sys.exit(TO_MEND)
    except KeyboardInterrupt:
        _end_interrupted("before anything was computed")


def absl_words(
    words: Sequence[str], tasks: Iterable[str] = TASKS, config: str = "", places: Sequence[str] = ()
) -> Line:
    """The words of a command line as flags for absl, `--config` first; arguments and errors as for `launch`."""
    if set(words) & {"--help", "--helpfull", "--helpshort", "-h", "--helpxml"}:
        return Line([word for word in words if word.startswith("-")], {})
    named = config_of(words) or config
    if not named:
        raise UserError("--config: is missing; name a file or a config, such as --config=folder")
    task = str(load_config(named).get("task"))
    _check_task(task, named, tasks)
    line = understood(words, task_settings(task), places, _takes_no_value)
    return Line([f"--config={shipped_config(named)}", *line.flags], line.typed)


def task_settings(task: str) -> dict[str, Setting]:
    """All settings of a task by their paths."""
    module, _, name = SETTINGS[task].partition(":")
    return {setting.path: setting for setting in settings_of(getattr(importlib.import_module(module), name))}


def _takes_no_value(name: str) -> bool | None:
    """Whether a flag of absl or of JAX takes no value; None: there is no such flag."""
    return bool(flags.FLAGS[name].boolean) if name in flags.FLAGS else None


def main(arguments: list[str], line: Line) -> int:
    """Hands over to the config's task; returns the exit status.

    Args:
        arguments: what absl has left: the program's name.
        line: what the user has typed.
    """
    from codegraph_jax.core.environment import require_devices
    from codegraph_jax.core.programs import keep_programs
    from codegraph_jax.distributed.processes import joined

    keep_programs()
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, force=True)
    config = CONFIG.value
    try:
        if EXIT_CODE.value and config.task not in FLAGGING:
            raise UserError(f"--exit-code: goes with {' and '.join(FLAGGING)}; {config.task} flags no images")
        with joined(COORDINATOR.value, PROCESSES.value, PROCESS_ID.value):
            require_devices()
            outcomes = importlib.import_module(TASKS[config.task]).run(config, workdir(config))
    except UserError as error:
        print(f"error: {line.named(str(error))}", file=sys.stderr)
        return TO_MEND
    except KeyboardInterrupt:
        _end_interrupted(_how_to_go_on(config))
    return status_of(outcomes) if EXIT_CODE.value else FINE


def status_of(outcomes: Sequence[Any]) -> int:
    """The exit status that says what was found: something flagged, nothing, or too few photos to tell."""
    said = {verdict for outcome in outcomes for verdict in outcome.result.verdicts}
    return SOMETHING_FLAGGED if "flagged" in said else NOT_JUDGED if "not judged" in said else FINE


def workdir(config: Any) -> str:
    """The directory of the results: what the flag says, or `runs/` and a name.

    The name is that of the photos' folder for `codegraph detect`, and has the config's name behind it for all else.
    """
    if WORKDIR.value:
        return str(Path(WORKDIR.value).expanduser())
    stem = Path(config_file()).stem
    if config.task == "oecl_score":
        stem = "scores"  # and not where a network was trained
    folder = _folder(config)
    if folder and (config.task, stem) == ("detect", "folder"):
        return str(Path("runs") / folder)
    return str(Path("runs") / (f"{folder}-{stem}" if folder else stem))


def _folder(config: Any) -> str:
    """The name of the photos' folder as a file name; empty where there is none."""
    if config.task not in FOLDERS:
        return ""
    place: Any = config
    for name in FOLDERS[config.task].split("."):
        place = place[name]
    path = str(place).rpartition(":")[2] if str(place).startswith(("csv:", "tfds:", "voc:")) else str(place)
    name = Path(os.path.realpath(Path(path).expanduser())).name if path else ""
    return file_stem(name) if name else ""


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


def _check_task(task: str, config: str, tasks: Iterable[str]) -> None:
    if task not in TASKS:
        raise UserError(f"--config={config}: config.task: {task!r} is not one of {', '.join(TASKS)}")
    if task not in tasks:
        raise UserError(f"--config={config}: is for the task {task}, and this command is for {', '.join(tasks)}")


def _how_to_go_on(config: Any) -> str:
    """What to do after an interruption."""
    if config.task in GOING_ON or config.get("resume", False):
        return "start the same command again to go on from what has been kept"
    return "nothing is kept of this run; start it again"


def _end_interrupted(what_now: str) -> NoReturn:
    """Says so on one line and ends at once: devices may still compute, and Python must not be taken down under them."""
    print(f"\ninterrupted; {what_now}", file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        if stream:
            stream.flush()
    os._exit(INTERRUPTED)
