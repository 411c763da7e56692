"""ResNets for small images and large ones."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import nn

from synthcl.core.plugin import Section
from synthcl.method.encoders.parted_conv import PartedConv2d


class ResnetConfig(Section):
    """torchvision's ResNet with a stem for the size of the images."""

    kind: Literal["resnet18", "resnet50"] = "resnet18"
    stem: Literal["cifar", "imagenet"] = Field("cifar", description="3x3 with stride 1, or 7x7 with pooling")

    def build(self, channels: int) -> nn.Module:
        return resnet(self, channels)


def resnet(config: ResnetConfig, channels: int) -> nn.Module:
    """torchvision's ResNet under its own parameter names, less the classifier.

    Source: He et al. 2016; the CIFAR stem as in SimCLR (Chen et al. 2020, appendix B.9).
    """
    import torchvision  # half of the time that importing synthcl would take

    network = getattr(torchvision.models, config.kind)(weights=None)
    if config.stem == "cifar":
        network.conv1 = PartedConv2d(channels, 64, 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    else:
        network.conv1 = nn.utils.skip_init(PartedConv2d, channels, 64, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.feature_dim = network.fc.in_features
    network.fc = nn.Identity()
    return network
