"""The base class of all errors that the user can fix."""

import difflib
from collections.abc import Iterable

from codegraph_jax.core.installing import extra, install_command


class UserError(ValueError):
    """Invalid input, settings or files; the message says what is wrong, where, and what to do.

    The command prints it on one line and exits with status 2. Any other exception is a bug and keeps its traceback.
    """


class MissingPackageError(UserError):
    """An optional package that a task needs is not installed; the message gives the command that installs it.

    Args:
        task: name of the task.
        package: the missing package.
        needed: the extra of this project that contains it.
    """

    def __init__(self, task: str, package: str, needed: str):
        super().__init__(
            f"{task} needs the package {package}, which is not installed: {install_command(extra(needed))}"
        )


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """`did you mean 'x'?` for the most similar known name, or `otherwise` if none is similar."""
    close = difflib.get_close_matches(name, [*known], n=1)
    return f"did you mean {close[0]!r}?" if close else otherwise
