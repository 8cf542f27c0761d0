"""Errors that a user can mend."""

import sys
from collections.abc import Callable


class InputError(ValueError):
    """Bad input, said in one sentence that names the file, row or key, and the remedy.

    Commands and notebooks print the sentence alone, without a traceback, and exit with status 1.
    """


def exit_status(command: Callable[[], object]) -> int:
    """Run a command and print what it returns, or its InputError's sentence; returns the process's status, 0 or 1."""
    try:
        print(command())
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
