"""The encoder that is pretrained, and the projector its contrastive loss looks through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from synthcl.config import EncoderConfig
from synthcl.models.layout import channels_last


def normalise(images: Tensor) -> Tensor:
    """Map images (n, C, H, W) from [0, 1] to the [-1, 1] that encoders take, channels last in memory."""
    return channels_last(images * 2 - 1)


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
    return _resnet(config, channels)


class ConvEncoder(nn.Sequential):
    """Four convolutions for small images on a CPU; what costs the time is resolution times channels squared.

    Full resolution is left in the first layer and channels double as resolution halves. Among eight designs of
    equal training time on 28 x 28 grey images this gave the most views a second and nearest neighbours as good as
    any; a second convolution at 14 x 14 costs half the speed.

    Args:
        width: the stages have width / 2, width, 2 * width and 4 * width channels.
        channels: of the images.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__(
            *_conv(channels, (width + 1) // 2, stride=2, layer=PartedConv2d),
            *_conv((width + 1) // 2, width, stride=2),
            *_conv(width, 2 * width, stride=2),
            *_conv(2 * width, 4 * width, stride=1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.feature_dim = 4 * width


def _conv(inputs: int, outputs: int, stride: int, layer: type[nn.Conv2d] = nn.Conv2d) -> list[nn.Module]:
    return [layer(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def _resnet(config: EncoderConfig, channels: int) -> nn.Module:
    """torchvision's ResNet under its own parameter names, less the classifier.

    Source: He et al. 2016; the CIFAR stem as in SimCLR (Chen et al. 2020, appendix B.9).
    """
    network = getattr(torchvision.models, config.name)(weights=None)
    if config.stem == "cifar":
        network.conv1 = PartedConv2d(channels, 64, 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    else:
        network.conv1 = nn.utils.skip_init(PartedConv2d, channels, 64, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.feature_dim = network.fc.in_features
    network.fc = nn.Identity()
    return network


class PartedConv2d(nn.Conv2d):
    """A first convolution that also takes its batch in parts, so that only those that require a gradient cost one.

    On a CPU the gradient to the images of a whole batch takes as long as a quarter of the encoder's forward pass.
    """

    def forward(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """Images (n, C, H, W), or parts that add up to n."""
        if isinstance(images, Tensor):
            return super().forward(images)
        if not any(part.requires_grad for part in images):
            return super().forward(torch.cat(tuple(images)))
        return torch.cat([super(PartedConv2d, self).forward(part) for part in images])


def make_projector(config: EncoderConfig, encoder: nn.Module) -> Projector:
    """The head that maps an encoder's features to the embeddings the loss sees."""
    return Projector(cast(int, encoder.feature_dim), config.projector_hidden, config.projector_dim)


class Projector(nn.Module):
    """Linear, BatchNorm, ReLU, Linear, then the unit sphere (Chen et al. 2020).

    Args:
        feature_dim: of the encoder.
        hidden: units of the hidden layer.
        dim: of the embedding.
    """

    def __init__(self, feature_dim: int, hidden: int, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(feature_dim, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, dim),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features (n, feature_dim) -> embeddings (n, dim) of length 1."""
        return F.normalize(self.layers(features), dim=1)
