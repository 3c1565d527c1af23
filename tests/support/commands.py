"""Runs commands inside the process of the tests, since a new process takes seconds to load JAX."""

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from subprocess import CompletedProcess
from unittest.mock import patch

from absl import app, flags
from absl.testing import flagsaver

from codegraph_jax.commands.console import main as console
from codegraph_jax.commands.launch import launch
from codegraph_jax.core import started_command


@contextmanager
def fresh_process() -> Iterator[None]:
    """Restores flags, log handlers, `sys.argv`, `sys.path` and the remembered command."""
    root, level, values = logging.getLogger(), logging.getLogger().level, flagsaver.save_flag_values()
    parsed = flags.FLAGS.is_parsed()
    try:
        with (
            patch.object(root, "handlers", []),
            patch.object(sys, "argv", sys.argv),
            patch.object(sys, "path", list(sys.path)),
            patch.object(started_command, "_command", ""),
            # absl names the process, and installs its log and crash handlers, only the first time
            patch.object(app._run_init, "done", True),
        ):
            yield
    finally:
        root.setLevel(level)
        flagsaver.restore_flag_values(values)  # also removes flags that the command has defined
        if not parsed:
            flags.FLAGS.unparse_flags()


def ended(entry: Callable[[], None], *arguments: object) -> CompletedProcess[str]:
    """Runs an entry point that reads `sys.argv` and ends with an exit status, like a new process.

    Args:
        entry: the entry point.
        *arguments: `sys.argv`, from the name of the program.
    """
    output, errors = io.StringIO(), io.StringIO()
    words = list(map(str, arguments))
    with fresh_process(), redirect_stdout(output), redirect_stderr(errors):
        sys.argv = words
        try:
            entry()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return CompletedProcess(words, status, output.getvalue(), errors.getvalue())


def codegraph(*arguments: object) -> CompletedProcess[str]:
    """`codegraph ARGUMENTS`."""
    return ended(console, "codegraph", *arguments)


def main(*arguments: object) -> CompletedProcess[str]:
    """`python main.py ARGUMENTS`."""
    return ended(lambda: launch(sys.argv), "main.py", *arguments)


if __name__ == "__main__":
    # used by tests that run several commands in a process with other packages
    runs = [codegraph(*words) for words in json.loads(sys.argv[1])]
    print(json.dumps([[run.returncode, run.stdout, run.stderr] for run in runs]))
