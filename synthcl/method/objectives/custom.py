"""A user's own loss, named as `module:callable`."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from synthcl.core import distributed
from synthcl.core.errors import UserError
from synthcl.core.plugin import Code, imported
from synthcl.method.objectives.term import TermSection
from synthcl.method.scene import Own, Seen, Term


class CustomTerm(TermSection):
    """`loss(vectors, groups, **options)` of the whole batch, differentiable.

    It is given what the head makes of all views of all processes, (V, dim) float32 and not of unit length, and the
    group that each view belongs to, (V,) int64, and returns the mean loss, a 0-dim tensor.

    Example:
        >>> CustomTerm(code="torch.nn.functional:cross_entropy", plays=False).kind
        'custom'
    """

    kind: Literal["custom"] = "custom"
    code: Code
    options: dict[str, Any] = Field({}, description="keyword arguments of the callable")

    def build(self, dim: int) -> CustomLoss:
        return CustomLoss(self)


class CustomLoss(Term):
    """Calls the user's function on what all processes see."""

    def __init__(self, section: CustomTerm) -> None:
        super().__init__()
        self._section, self.plays = section, section.plays
        self._loss = imported("code", section.code)

    def forward(self, seen: Seen, own: Own) -> Tensor:
        if seen.views.weights is not None:
            raise UserError(f"code {self._section.code!r} takes one group a view, and views are mixed here")
        vectors = distributed.gather_with_gradient(seen.head(self._section.head).float())
        groups = distributed.gather(seen.views.members[:, 0])
        with torch.autocast(vectors.device.type, enabled=False):
            loss = self._loss(vectors, groups, **self._section.options)
        if not isinstance(loss, Tensor) or loss.ndim or (torch.is_grad_enabled() and not loss.requires_grad):
            shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise UserError(
                f"code {self._section.code!r} returned {shape}; it must return a 0-dim tensor with a gradient"
            )
        return loss
