"""The one class that every problem which the user can mend derives from."""


class UserError(ValueError):
    """Input, settings or files that cannot work; the message says what, where, and what to do.

    `main.py` prints it on one line and exits with status 2. Anything else is a defect of the program and keeps its
    traceback.
    """


class MissingPackage(UserError):
    """A package that a task needs and that nobody has asked for."""

    def __init__(self, task: str, package: str, extra: str):
        super().__init__(f"the task {task} needs {package}: pip install 'codegraph-jax[{extra}]'")
