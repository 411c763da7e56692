"""A user's own change of views, named as `module:callable`."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from synthcl.core.device import to_device
from synthcl.core.errors import UserError
from synthcl.core.plugin import Code, Section, imported
from synthcl.method.scene import Own, View, Views


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


class Numbers(NamedTuple):
    """Uniform numbers (n, k) and the strength they were drawn for."""

    uniform: Tensor
    strength: float

    def rows(self, indices: Tensor) -> Numbers:
        return Numbers(self.uniform[indices], self.strength)

    def to(self, device: torch.device | str) -> Numbers:
        return Numbers(to_device(self.uniform, device), self.strength)


class ChangeOfViews(View):
    """Calls the user's function on each part of the views."""

    site: ClassVar[Literal["pixel"]] = "pixel"

    def __init__(self, section: CustomView) -> None:
        super().__init__()
        self._section, self._change = section, imported("code", section.code)

    def draw(self, views: int, strength: float, generator: torch.Generator) -> Numbers:
        return Numbers(torch.rand(views, self._section.numbers, generator=generator), strength)

    def forward(self, views: Views, draw: Numbers, own: Own) -> Views:
        parts = []
        for pixels, numbers in zip(views.parts, draw.uniform.split(list(views.counts)), strict=True):
            changed = self._change(pixels, numbers, draw.strength, **self._section.options)
            if not isinstance(changed, Tensor) or changed.shape != pixels.shape:
                shape = tuple(changed.shape) if isinstance(changed, Tensor) else type(changed).__name__
                raise UserError(
                    f"code {self._section.code!r} returned {shape} for views {tuple(pixels.shape)}; return the same"
                )
            parts.append(changed)
        return views._replace(parts=tuple(parts))
