"""A user's own generator, named as `module:callable`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from synthcl.core.errors import UserError
from synthcl.core.plugin import imported
from synthcl.method.synthetic.gan.settings import GanConfig


def users_generator(config: GanConfig, channels: int, image_size: int) -> nn.Module:
    """Import and call a user's factory, and hold what it returns to the contract once, on two latents."""
    field = "synthetic.gan.generator"
    said = f"{field} {config.generator!r}"
    factory = imported(field, config.generator or "")
    try:
        generator = factory(latent_dim=config.latent_dim, channels=channels, image_size=image_size)
    except TypeError as error:
        raise UserError(f"{said} cannot be called with latent_dim, channels and image_size: {error}") from None
    if not isinstance(generator, nn.Module):
        raise UserError(f"{said} returned a {type(generator).__name__}; it must return a torch.nn.Module")

    latents = torch.stack([torch.zeros(config.latent_dim), torch.ones(config.latent_dim)]).requires_grad_()
    try:
        with torch.enable_grad():  # whoever only samples builds one too
            images = generator(latents)
    except (RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{said} fails on latents (2, {config.latent_dim}): {str(error).splitlines()[0]}") from None
    expected = (2, channels, image_size, image_size)
    if not isinstance(images, Tensor) or tuple(images.shape) != expected:
        shape = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise UserError(f"{said} returned {shape} for 2 latents; it must return images {expected}")
    low, high = images.min().item(), images.max().item()
    if not (low >= 0 and high <= 1):
        raise UserError(f"{said} returned values from {low:.3g} to {high:.3g}; images must lie in [0, 1]")
    ones = torch.ones_like(images)
    if not images.requires_grad or torch.autograd.grad(images, latents, ones, allow_unused=True)[0] is None:
        raise UserError(f"{said} returned images without a gradient to the latents; G(z) must be differentiable")
    return generator
