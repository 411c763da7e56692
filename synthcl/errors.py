"""The one error that users cause and users can mend."""


class UserError(ValueError):
    """Bad input: one line that names the thing, the value received and what would be right.

    The command-line programs print it as ``error: ...`` and leave with exit code 2, before any
    training has begun.
    """
