"""The errors that users cause and users can mend."""


class UserError(ValueError):
    """Bad input: one line that names the thing, the value received and what would be right.

    The command-line programs print it as ``error: ...`` and leave with exit code 2, before any
    training has begun.
    """


class Diverged(UserError):
    """A training's losses or features became NaN or infinite: an outcome of its configuration, so a search goes on."""
