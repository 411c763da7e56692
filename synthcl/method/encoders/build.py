"""The encoder that a configuration names."""

from __future__ import annotations

from torch import nn

from synthcl.method.encoders.conv import ConvEncoder
from synthcl.method.encoders.resnet import resnet
from synthcl.method.encoders.settings import EncoderConfig


def make_encoder(config: EncoderConfig, channels: int) -> nn.Module:
    """The network that turns images into features.

    Args:
        config: the encoder section.
        channels: of the images: 1 or 3.

    Returns:
        A module (n, C, H, W) in [-1, 1] -> (n, feature_dim), with the attribute `feature_dim`.
    """
    if config.name == "conv":
        return ConvEncoder(config.width, channels)
    return resnet(config, channels)
