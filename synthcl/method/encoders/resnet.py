"""ResNets for small images and large ones."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, cast

from pydantic import Field, model_validator
from torch import nn

from synthcl.core.errors import UserError
from synthcl.method.encoders import weights as files
from synthcl.method.encoders.normalise import IMAGENET, Statistics
from synthcl.method.encoders.parted_conv import PartedConv2d
from synthcl.method.encoders.section import TORCHVISION, EncoderSection
from synthcl.method.encoders.style import Stage


class ResnetConfig(EncoderSection):
    """torchvision's ResNet with a stem for the size of the images."""

    kind: Literal["resnet18", "resnet50"] = "resnet18"
    stem: Literal["cifar", "imagenet"] = Field("cifar", description="3x3 with stride 1, or 7x7 with pooling")

    SOURCES: ClassVar[tuple[str, ...]] = (TORCHVISION,)
    UNUSED: ClassVar[tuple[str, ...]] = ("fc.",)

    @model_validator(mode="after")
    def _torchvisions_weights_have_their_own_stem(self) -> ResnetConfig:
        if self.weights is not None and self.weights.startswith(TORCHVISION) and self.stem != "imagenet":
            raise ValueError(
                f"weights {self.weights!r} are of stem imagenet, and stem is {self.stem!r}; write imagenet"
            )
        return self

    def build(self, channels: int, image_size: int | None = None) -> nn.Module:
        return resnet(self, channels)

    def stages(self, encoder: nn.Module) -> list[Stage]:
        last = cast(int, encoder.feature_dim)
        deep = [Stage(encoder.get_submodule(f"layer{number}"), last >> (4 - number)) for number in (1, 2, 3, 4)]
        return [Stage(encoder.get_submodule("maxpool"), 64), *deep]

    def statistics_of_weights(self) -> Statistics:
        return IMAGENET

    def require_named_weights(self) -> None:
        if self.weights is not None and self.weights_file is None:
            self._named_weights()

    def fetch(self) -> files.State:
        named = self._named_weights()
        return files.fetched(str(self.weights), lambda: named.get_state_dict(progress=False, weights_only=True))

    def _named_weights(self) -> Any:
        import torchvision

        known = torchvision.models.get_model_weights(self.kind).__members__
        name = str(self.weights).removeprefix(TORCHVISION)
        if name not in known:
            choices = ", ".join(f"{TORCHVISION}{other}" for other in known)
            raise UserError(f"encoder.weights {self.weights!r}: torchvision has no such weights; choose {choices}")
        return known[name]


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
    network.conv1.normalise = config.normaliser(channels)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.feature_dim = network.fc.in_features
    network.fc = nn.Identity()
    return network
