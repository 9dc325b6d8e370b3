"""Faults that a user can mend, or wait out: one clear message and an exit code, no traceback."""


class InputError(ValueError):
    """What a user gave cannot be used; the message says what, why, and what to do."""


class TrainingError(InputError):
    """Training that cannot go on; what was saved is whole."""


class DataError(InputError):
    """A data set is missing, damaged or laid out differently than expected."""
