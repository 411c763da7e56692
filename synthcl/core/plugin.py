"""The base of every section of a configuration, its types of numbers, and families of sections told apart by `kind`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from synthcl.core.errors import UserError

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
GroupSize = Literal[2, 3, 4, 6, 8]
"""views that attract each other; whole groups of these fit the batches that people have"""
Code = Annotated[str, Field(pattern=r"^[\w.]+:\w+$", description="'module:callable', of a module on the path")]


class Section(BaseModel):
    """A frozen group of knobs that refuses unknown names, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    ascends: ClassVar[bool] = False
    """whether it is a view or a style that learns by ascending the terms that play"""


def kind_or(default: str) -> BeforeValidator:
    """What lets a member of a family leave its `kind` out; it is this one then."""
    return BeforeValidator(
        lambda value: {"kind": default} | value if isinstance(value, dict) and "kind" not in value else value
    )


def members(family: Any) -> dict[str, type[Section]]:
    """The sections of a family, by the kind that each goes under.

    Args:
        family: a union of sections, as the package of a family names it, or one section; it may have None, too.
    """
    if get_origin(family) is Annotated:
        return members(get_args(family)[0])
    if not (parts := get_args(family)):
        return dict.fromkeys(get_args(family.model_fields["kind"].annotation), family)
    return {kind: one for part in parts if part is not type(None) for kind, one in members(part).items()}


def imported(field: str, code: str) -> Callable[..., Any]:
    """The callable that a configuration names.

    Args:
        field: which names it, for the error.
        code: `module:callable`.

    Raises:
        UserError: when there is none.
    """
    said = f"{field} {code!r}"
    module_name, separator, attribute = code.partition(":")
    if not separator or not module_name or not attribute:
        raise UserError(f"{said} is not of the form module:callable, such as mygan:make_generator")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # a user's module can raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{said} cannot be imported: {reason}; give module:callable of a module on the path") from None
    if not callable(found):
        raise UserError(f"{said} is a {type(found).__name__}; it must be callable")
    return found
