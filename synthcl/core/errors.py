"""The errors that users cause and users can mend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from synthcl.core.secrets import hide


class UserError(ValueError):
    """Bad input: one line that names the thing, the value received and what would be right.

    The command-line programs print it as ``error: ...`` and leave with exit code 2, before any
    training has begun. What looks like a key or a password in it is hidden.

    Example:
        try:
            synthcl.load_preset("cifar11")
        except synthcl.UserError as error:
            print(error)
    """

    def __init__(self, line: str) -> None:
        super().__init__(hide(line))


class Leaving(RuntimeError):
    """A process that was told to leave has kept its work and ends; the run goes on elsewhere."""


class Diverged(UserError):
    """A training failed: not finite, collapsed, or won outright by one side. It is an outcome of its configuration, so
    a search goes on.

    Attributes:
        history: the points that were logged since the last leg.
    """

    history: tuple[dict[str, Any], ...] = ()


@contextmanager
def named(field: str) -> Iterator[None]:
    """Inside, what a user can mend is said with the field that it comes from in front.

    Args:
        field: dotted, such as `evaluation.references.frozen`.

    Example:
        >>> with named("terms.taught.teacher"):
        ...     raise UserError("encoder 'x' is missing")
        Traceback (most recent call last):
        synthcl.core.errors.UserError: terms.taught.teacher: encoder 'x' is missing
    """
    try:
        yield
    except UserError as error:
        raise UserError(f"{field}: {error}") from None


def first_line(error: BaseException) -> str:
    """What an error says, in one line and without secrets, or its type."""
    return hide(str(error).splitlines()[0]) if str(error) else type(error).__name__


def yaml_problem(error: yaml.YAMLError) -> str:
    """What is wrong, and where to mend it."""
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{place}{getattr(error, 'problem', None) or str(error).splitlines()[0]}"
