"""A user's own change of views, named as `module:callable`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from synthcl.core.errors import UserError
from synthcl.core.plugin import Code, Section, imported
from synthcl.method.views.uniform import Numbers, UniformView


class CustomView(Section):
    """`change(views, numbers, strength, **options)`, differentiable, of the same shape and in [0, 1] again.

    It is given views (n, C, s, s) in [0, 1], its random numbers (n, numbers) uniform in [0, 1), the only source of
    randomness it may use, and the curriculum's view strength.
    """

    kind: Literal["custom"] = "custom"
    code: Code
    numbers: int = Field(1, ge=0, description="random numbers a view")
    options: dict[str, Any] = Field({}, description="keyword arguments of the callable")

    def build(self, size: int) -> ChangeOfViews:
        return ChangeOfViews(self)


class ChangeOfViews(UniformView[CustomView]):
    """Calls the user's function on each part of the views."""

    def __init__(self, section: CustomView) -> None:
        super().__init__(section)
        self._change, self.numbers = imported("code", section.code), section.numbers

    def change(self, pixels: Tensor, draw: Numbers) -> Tensor:
        changed = self._change(pixels, draw.uniform, draw.one_strength, **self.section.options)
        if not isinstance(changed, Tensor) or changed.shape != pixels.shape:
            shape = tuple(changed.shape) if isinstance(changed, Tensor) else type(changed).__name__
            raise UserError(
                f"code {self.section.code!r} returned {shape} for views {tuple(pixels.shape)}; return the same"
            )
        return changed
