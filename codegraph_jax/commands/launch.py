"""Parses the flags, runs the task of the config, and sets the exit status, for `main.py` and `codegraph`."""

import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise, takewhile
from operator import attrgetter
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags

import codegraph_jax
from codegraph_jax.commands.command_line import CommandLine, parse_settings
from codegraph_jax.commands.config_files import load_config, shipped_config
from codegraph_jax.commands.registry import TASKS, Command
from codegraph_jax.core.errors import UserError
from codegraph_jax.core.names import file_stem
from codegraph_jax.core.output import steady_output
from codegraph_jax.core.settings import ConfigError, Setting, settings_of, with_settings

FINE, SOMETHING_FLAGGED, INVALID, TOO_FEW, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit statuses; the second and fourth are used only with `--exit-code`."""

flags.DEFINE_string("config", None, "Experiment: a file of configs/ or its name, perhaps with `:variant`.")
COORDINATOR = flags.DEFINE_string(
    "coordinator", "", "For several hosts: HOST:PORT of process 0, or `auto` under Slurm, Kubernetes or on Cloud TPU."
)
PROCESSES = flags.DEFINE_integer("processes", 1, "With --coordinator=HOST:PORT: the number of processes.")
PROCESS_ID = flags.DEFINE_integer("process_id", 0, "With --coordinator=HOST:PORT: the number of this process, from 0.")
WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the results (also --out); default: runs/ and a name.")
EXIT_CODE = flags.DEFINE_boolean(
    "exit_code", False, "Exit status 1 if a photo is flagged, 3 if there are too few photos."
)
for alias, flag in {"out": "workdir", "process-id": "process_id", "exit-code": "exit_code"}.items():
    flags.DEFINE_alias(alias, flag)
app.define_help_flags()


def launch(
    arguments: Sequence[str], command: Command | None = None, run: Callable[[Any, str], Any] | None = None
) -> NoReturn:
    """Runs the config that the flags name and ends the process.

    Args:
        arguments: the program name and its arguments, as in `sys.argv`.
        command: the command, which has a default config; None allows every task and requires `--config`.
        run: takes the config and the workdir; None: the function `run` of the task.
    """
    steady_output()
    if "--version" in arguments[1:]:
        print(f"codegraph-jax {codegraph_jax.__version__}")
        sys.exit(FINE)
    with ending_in_one_line("before anything was computed"):
        # imported here, so that an interrupt during the import of JAX is handled too
        import jax

        from codegraph_jax.core.started_command import remember_command

        jax.config.config_with_absl()
        parsed = parse_command_line(arguments[1:], command)
        program = arguments[0].split(" ") if arguments[0].startswith("codegraph ") else ["python", arguments[0]]
        remember_command([*program, *arguments[1:]])
        app.run(lambda _: run_task(parsed, command, run), [arguments[0]], flags_parser=lambda given: given)
    raise AssertionError("absl ends the process")


@contextmanager
def ending_in_one_line(advice: str, named: Callable[[str], str] = str) -> Iterator[None]:
    """Ends the process in one line after a `UserError`, with status 2, or an interruption from the keyboard, with 130.

    Args:
        advice: what to do after an interruption.
        named: makes an error message of the text of the error.
    """
    try:
        yield
    except UserError as error:
        print(f"error: {named(str(error))}", file=sys.stderr)
        sys.exit(INVALID)
    except KeyboardInterrupt:
        print(f"\ninterrupted; {advice}", file=sys.stderr)
        for stream in (sys.stdout, sys.stderr):
            if stream:
                stream.flush()
        os._exit(INTERRUPTED)  # without Python's cleanup, which can crash while devices compute


def parse_flags(arguments: Sequence[str]) -> list[str]:
    """Parses the flags that set no setting, such as `--out`; returns all other arguments in their order.

    Raises:
        UserError: a value is missing or invalid, or a flag of JAX has dashes for underscores.
    """
    all_flags = flags.FLAGS
    for flag, following in pairwise([*takewhile(lambda word: word != "--", arguments), "--"]):
        name = flag.lstrip("-")
        if flag.startswith("-") and name in all_flags:
            if not all_flags[name].boolean and following.startswith("--"):
                raise UserError(f"{flag}: needs a value; write {flag}=VALUE")
            if all_flags[name].boolean and following.lower() in ("true", "false"):
                raise UserError(f"{flag}: takes its value after an equals sign; write {flag}={following}")
        elif flag.startswith("--jax-"):
            raise UserError(f"{flag}: no such flag; flags of JAX have underscores: --{name.replace('-', '_')}")
    all_flags.set_gnu_getopt(True)
    try:
        return all_flags(["codegraph", *arguments], known_only=True)[1:]
    except (flags.Error, ValueError) as error:
        raise UserError(" ".join(str(error).split())) from None


def parse_command_line(arguments: Sequence[str], command: Command | None = None) -> CommandLine:
    """Parses the command line and loads its config; `command` as for `launch`.

    Raises:
        UserError: an argument is wrong, or `--config` is missing or names a task of another command.
    """
    words = parse_flags(arguments)
    named = flags.FLAGS.config or (command.config if command else "")
    config = default_config(named, command)
    settings = task_settings(config.task)
    del settings["task"]
    for path in task_settings(config.task, without_flag=True).keys() - settings.keys():
        if any(word.partition("=")[0] == f"--config.{path}" for word in words):
            raise UserError(f"--config.{path}: has no flag; set it in a config file, --config=FILE.py")
    positional = {setting: name for name, setting in (command.arguments if command else ()) if setting in settings}
    values, shown_names = parse_settings(words, settings, positional)
    parsed = CommandLine(values, shown_names, config_name=named)
    try:
        return replace(parsed, config=with_settings(config, values))
    except ConfigError as error:
        raise UserError(parsed.named(str(error))) from None


def task_settings(task: str, without_flag: bool = False) -> dict[str, Setting]:
    """The settings of a task by path; with `without_flag`, also fields that only config files set."""
    return {setting.path: setting for setting in settings_of(settings_class(task), without_flag=without_flag)}


def default_config(named: str, command: Command | None) -> Any:
    """The config of a name, or the defaults of the command's settings.

    Raises:
        UserError: there is neither a name nor a command, or the config cannot be read or is for another command.
    """
    if named:
        config = with_settings(load_config(named), {})
    elif command:
        config = settings_class(command.task)()
    else:
        raise UserError("--config: is missing; name a file or a config, such as --config=folder")
    if command and config.task not in (command.task, *command.other_tasks):
        raise UserError(f"--config={named}: is for another command; use codegraph {TASKS[config.task].name}")
    return config


def settings_class(task: str) -> type:
    """The dataclass of the settings of a task."""
    module, _, name = TASKS[task].settings.partition(":")
    settings_type: type = getattr(importlib.import_module(module), name)
    return settings_type


def run_task(parsed: CommandLine, command: Command | None = None, run: Callable[[Any, str], Any] | None = None) -> int:
    """Runs the task of the config and returns the exit status; arguments as for `launch`."""
    from codegraph_jax.core.compilation_cache import enable_compilation_cache
    from codegraph_jax.core.environment import require_devices
    from codegraph_jax.distributed.processes import connected

    enable_compilation_cache()
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, force=True)
    config, command = parsed.config, command or TASKS[parsed.config.task]
    resumes = command.resumes or getattr(config, "resume_data", "off") != "off"
    advice = "start the same command again to resume" if resumes else "nothing was saved; start the run again"
    with ending_in_one_line(advice, parsed.named):
        if EXIT_CODE.value and not command.flags_photos:
            raise UserError(f"--exit-code: has no effect, since {command.name} flags no photos; leave it out")
        if WORKDIR.value and not command.has_workdir:
            raise UserError(f"--out: has no effect, since {command.name} writes no directory; leave it out")
        if COORDINATOR.value and not command.several_processes:
            raise UserError(f"--coordinator: {command.name} runs in one process; leave it out")
        with connected(COORDINATOR.value, PROCESSES.value, PROCESS_ID.value):
            require_devices()
            run = run or importlib.import_module(command.module).run
            outcomes = run(config, results_directory(config, parsed.config_name))
    return status_of(outcomes) if EXIT_CODE.value else FINE


def status_of(outcomes: Sequence[Any]) -> int:
    """The exit status: a photo is flagged, there are too few photos for a threshold, or nothing is flagged."""
    verdicts = {verdict for outcome in outcomes for verdict in outcome.result.verdicts}
    return SOMETHING_FLAGGED if "flagged" in verdicts else TOO_FEW if "unknown" in verdicts else FINE


def results_directory(config: Any, config_name: str) -> str:
    """The directory of the results: the value of `--workdir`, or `runs/FOLDER-NAME`.

    FOLDER is the name of the photos' folder, if there is one, and NAME that of the config, or of the command if it has
    none; for `codegraph detect` the default is `runs/FOLDER`.
    """
    if WORKDIR.value:
        return str(Path(WORKDIR.value).expanduser())
    stem = Path(shipped_config(config_name).partition(":")[0]).stem if config_name else TASKS[config.task].name
    folder = _folder(config)
    if folder and (config.task, stem) == ("detect", "folder"):
        return str(Path("runs") / folder)
    return str(Path("runs") / (f"{folder}-{stem}" if folder else stem))


def _folder(config: Any) -> str:
    """The name of the photos' folder as a file name; empty if there is none."""
    setting = dict(TASKS[config.task].arguments).get("PHOTOS")
    if not setting:
        return ""
    path = str(attrgetter(setting)(config))
    path = path.rpartition(":")[2] if path.startswith(("csv:", "tfds:", "voc:")) else path
    name = Path(os.path.realpath(Path(path).expanduser())).name if path else ""
    return file_stem(name) if name else ""
