"""Errors that a user can mend."""


class InputError(ValueError):
    """Bad input, said in one sentence that names the file, row or key, and the remedy.

    Commands and notebooks print the sentence alone, without a traceback, and exit with status 1.
    """
