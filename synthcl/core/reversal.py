"""The node whose gradient has its sign turned: what stands before it ascends what stands behind it descends."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return vectors.view_as(vectors)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * gradient, None


def reverse(vectors: Tensor, factor: float) -> Tensor:
    """The same vectors; backwards, `-factor` times the gradient.

    Args:
        vectors: of any shape.
        factor: at least 0.

    Source: Ganin et al., JMLR 2016, section 4.2.

    Example:
        >>> x = torch.tensor(3.0, requires_grad=True)
        >>> reverse(x, 0.5).square().backward()
        >>> x.grad
        tensor(-3.)
    """
    return _Reverse.apply(vectors, factor)
