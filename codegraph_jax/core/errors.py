"""The one class that every problem which the user can mend derives from."""


class UserError(ValueError):
    """Input, settings or files that cannot work; the message says what, where, and what to do.

    `main.py` prints it on one line and exits with status 2. Anything else is a defect of the program and keeps its
    traceback.
    """
