"""A user's own encoder, named as `module:callable`."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from synthcl.core.errors import UserError
from synthcl.core.plugin import Code, imported
from synthcl.method.encoders.parted_conv import Parted
from synthcl.method.encoders.section import EncoderSection

_TRIED_PIXELS = 32
"""a side of what it is tried on where nobody says how large images are"""


class CustomEncoder(EncoderSection):
    """`make(channels=..., **options)`, which returns a module: images (n, C, H, W) in [-1, 1] -> features (n, dim)."""

    kind: Literal["custom"] = "custom"
    code: Code
    options: dict[str, Any] = Field({}, description="keyword arguments of the callable")
    feature_dim: int = Field(ge=1, description="dimensions of its features")

    def build(self, channels: int, image_size: int | None = None) -> nn.Module:
        """Call the factory, and hold what it returns to the contract once, on two images.

        Raises:
            UserError: when it breaks the contract.
        """
        said = f"encoder.code {self.code!r}"
        try:
            network = imported("encoder.code", self.code)(channels=channels, **self.options)
        except TypeError as error:
            raise UserError(f"{said} cannot be called with channels and {sorted(self.options)}: {error}") from None
        if not isinstance(network, nn.Module):
            raise UserError(f"{said} returned a {type(network).__name__}; it must return a torch.nn.Module")
        first = next(iter(network.parameters()), None)
        size = image_size or _TRIED_PIXELS
        images = torch.zeros(2, channels, size, size, device=None if first is None else first.device)
        mode = network.training
        try:
            with torch.no_grad():
                features = network.eval()(images)
        except (RuntimeError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{said} fails on images {tuple(images.shape)}: {reason}") from None
        if not isinstance(features, Tensor) or tuple(features.shape) != (2, self.feature_dim):
            shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise UserError(f"{said} returned {shape} for 2 images; encoder.feature_dim says (2, {self.feature_dim})")
        return Parted(network.train(mode), self.feature_dim, self.normaliser(channels))
