"""Errors that a user can fix: reported as a message and an exit code, without a traceback."""


class InputError(ValueError):
    """Invalid input; the message names it, says what is wrong and what to do."""


class TrainingError(InputError):
    """Training cannot continue; all checkpoints are intact."""


class DataError(InputError):
    """A data set is missing, damaged or laid out differently than expected."""
