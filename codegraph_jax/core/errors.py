"""The one class that every problem which the user can mend derives from."""

import difflib
from collections.abc import Iterable

from codegraph_jax.core.installing import extra, install_command


class UserError(ValueError):
    """Input, settings or files that cannot work; the message says what, where, and what to do.

    `main.py` prints it on one line and exits with status 2. Anything else is a defect of the program and keeps its
    traceback.
    """


class MissingPackage(UserError):
    """A package that a task needs and that nobody has asked for."""

    def __init__(self, task: str, package: str, needed: str):
        """
        Args:
            task: that needs it.
            package: that is missing.
            needed: the extra of this project that has it; all of it is named in the command.
        """
        super().__init__(
            f"{task} needs the package {package}, which is not installed: {install_command(extra(needed))}"
        )


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """`did you mean 'x'?` for the nearest of the known names, or `otherwise` where none is near."""
    close = difflib.get_close_matches(name, [*known], n=1)
    return f"did you mean {close[0]!r}?" if close else otherwise
