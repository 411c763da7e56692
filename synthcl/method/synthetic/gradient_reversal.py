"""The node where the encoder's descent becomes the generator's ascent.

PPCL has to be minimised by the encoder and maximised by the generator. Both gradients come from one
backward pass when the images pass a node that hands the contrastive gradient on with its sign turned.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from synthcl.core import distributed
from synthcl.method.synthetic.teacher import Teacher


class _Fork(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, images: Tensor, hardness: float, unit: str, norms: Tensor | None, teacher: Teacher | None
    ) -> tuple[Tensor, Tensor]:
        ctx.hardness, ctx.unit, ctx.norms, ctx.teacher = hardness, unit, norms, teacher
        return images.view_as(images), images.view_as(images)

    @staticmethod
    def backward(ctx: Any, contrastive: Tensor, realism: Tensor) -> tuple[Tensor, None, None, None, None]:
        squares = torch.stack([contrastive.float().square().sum(), realism.float().square().sum()])
        # A process's images get the gradient of the sum of all losses, world_size times that of their mean.
        contrastive_norm, realism_norm = (distributed.mean(squares) / distributed.world_size()).sqrt().unbind()
        weight = contrastive_norm.new_full((), ctx.hardness)  # as_tensor would wait for a GPU
        if ctx.unit == "gradient_ratio":
            weight = weight * realism_norm / contrastive_norm.clamp(min=1e-12)
        if ctx.norms is not None:
            ctx.norms.copy_(torch.stack([contrastive_norm, realism_norm]))
        ascended = contrastive if ctx.teacher is None else ctx.teacher.bounded(contrastive)
        return realism - weight.to(contrastive.dtype) * ascended, None, None, None, None


def reverse_gradient(
    images: Tensor,
    hardness: float,
    unit: Literal["weight", "gradient_ratio"],
    norms: Tensor | None = None,
    teacher: Teacher | None = None,
) -> tuple[Tensor, Tensor]:
    """Hand generated images to the encoder and to the discriminator.

    Forward, both branches are the images. Backward, the images receive
    `gradient of realism - weight * gradient of contrast`, so that one backward pass through
    `contrastive(first) + adversarial(second)` descends the contrastive loss in the encoder and the
    adversarial loss in G, and ascends the contrastive loss in G. With a teacher, the contrastive gradient that G
    ascends is that of the encoder less `teacher.share` times that of the slow encoder; the weight does not change.

    Args:
        images: (n, C, H, W) made by G.
        hardness: at least 0.
        unit: 'weight' takes hardness as the weight; 'gradient_ratio' chooses the weight so that
            |weight * gradient of contrast| = hardness * |gradient of realism|, norms over the whole
            batch of all processes: a scale that means the same for every loss, batch and resolution.
        norms: (2,) float32, filled in the backward pass with the two gradient norms (contrast, realism).
        teacher: asked in the backward pass, when it has looked at the first of the images returned; None sets no bound.

    Returns:
        (images for the encoder, images for the discriminator).

    Source: gradient reversal, Ganin et al., "Domain-Adversarial Training of Neural Networks", 2016, sec. 4.2.
    """
    if hardness == 0:
        return images.detach(), images  # spares the backward pass through T into the images
    return _Fork.apply(images, hardness, unit, norms, teacher)
