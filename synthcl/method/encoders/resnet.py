"""ResNet-18 for small images."""

from __future__ import annotations

from torch import nn

from synthcl.method.encoders.parted_conv import PartedConv2d
from synthcl.method.encoders.settings import EncoderConfig


def resnet(config: EncoderConfig, channels: int) -> nn.Module:
    """torchvision's ResNet under its own parameter names, less the classifier.

    Source: He et al. 2016; the CIFAR stem as in SimCLR (Chen et al. 2020, appendix B.9).
    """
    import torchvision  # half of the time that importing synthcl would take

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
