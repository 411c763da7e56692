"""The encoder section of a configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from synthcl.core.plugin import Count, Section


class EncoderConfig(Section):
    name: Literal["conv", "resnet18", "resnet50"] = Field("conv", description="architecture")
    width: Count = Field(32, description="the conv encoder's stages have 1/2, 1, 2 and 4 times this many channels")
    stem: Literal["cifar", "imagenet"] = Field("cifar", description="ResNet stem: 3x3 stride 1, or 7x7 with pooling")
    projector_hidden: Count = Field(256, description="hidden units of the projector")
    projector_dim: Count = Field(64, description="dimensions of the embedding the loss sees")
