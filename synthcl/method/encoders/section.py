"""What every encoder's section has: what the network begins with, and how fast it learns from there."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from torch import nn

from synthcl.core.errors import UserError
from synthcl.core.plugin import Section, kind_or
from synthcl.method.encoders import weights as files
from synthcl.method.encoders.advstyle import AdvStyleConfig
from synthcl.method.encoders.dsu import DsuConfig
from synthcl.method.encoders.normalise import HALF, IMAGENET, Normalise, Statistics, normaliser
from synthcl.method.encoders.style import Stage

TORCHVISION = "torchvision:"
TIMM = "timm"
AnyStyle = Annotated[DsuConfig | AdvStyleConfig, Field(discriminator="kind"), kind_or("dsu")]


class EncoderSection(Section):
    """A network, where its weights come from, and how it is trained."""

    weights: str | None = Field(
        None,
        description="that it begins with: a file (safetensors or a state dict), torchvision:NAME, or timm; "
        "none begins at random",
    )
    normalise: Literal["auto", "imagenet", "half"] = Field(
        "auto",
        description="mean and standard deviation of its images: what its weights expect, ImageNet's, or 0.5 and 0.5",
    )
    trunk_learning_rate_factor: float = Field(
        1.0, gt=0, le=1, description="the encoder's learning rate over that of the heads; lower for pretrained weights"
    )
    style: AnyStyle | None = Field(
        None, description="perturbed statistics of its feature maps, in training alone: dsu, advstyle, or none"
    )

    SOURCES: ClassVar[tuple[str, ...]] = ()
    """which weights by name it knows beside files"""

    @model_validator(mode="after")
    def _weights_are_of_this_kind(self) -> EncoderSection:
        named = self.weights is not None and self.weights_file is None
        if named and not any(str(self.weights).startswith(source) for source in self.SOURCES):
            known = {TORCHVISION: f"{TORCHVISION}NAME"}
            others = " or ".join(["the path of a file", *(known.get(source, source) for source in self.SOURCES)])
            raise ValueError(f"weights {self.weights!r} are none of this kind of encoder; give {others}")
        return self

    @property
    def weights_file(self) -> Path | None:
        """The file that it begins with, if it is one."""
        named = self.weights is None or self.weights == TIMM or self.weights.startswith(TORCHVISION)
        return None if named else Path(str(self.weights)).expanduser()

    def statistics(self) -> Statistics:
        """What its images are normalised with."""
        if self.normalise == "auto":
            return HALF if self.weights is None else self.statistics_of_weights()
        return HALF if self.normalise == "half" else IMAGENET

    def normaliser(self, channels: int) -> Normalise | None:
        """The layer that brings images in [-1, 1] there; None where they are."""
        return normaliser(self.statistics(), channels)

    def statistics_of_weights(self) -> Statistics:
        """What the weights expect that this kind usually begins with."""
        return HALF

    @property
    def plugins(self) -> dict[str, AnyStyle]:
        """What acts on the network while it trains, by field; no part of it."""
        return {} if self.style is None else {"style": self.style}

    @abstractmethod
    def build(self, channels: int, image_size: int | None = None) -> nn.Module:
        """The network with random weights; nothing is read, and nothing is fetched.

        Args:
            channels: 1 or 3.
            image_size: pixels a side, for networks that are made for one; None is the network's own.

        Returns:
            Images (n, channels, image_size, image_size) in [-1, 1], or parts that add up to n, -> (n, feature_dim).
        """

    def stages(self, encoder: nn.Module) -> list[Stage]:
        """The parts of a network of `build` that give maps, from the first to the last; none where none is known."""
        return []

    def begin(self, channels: int, image_size: int | None = None) -> nn.Module:
        """The network with the weights that a run begins with, which may be downloaded here.

        Raises:
            UserError: when they cannot be read or fetched, or do not fit.
        """
        encoder = self.build(channels, image_size)
        if self.weights is None:
            return encoder
        file = self.weights_file
        if file is not None:
            files.require_same_statistics(file, self.statistics())
        state = self.fetch() if file is None else files.read(file)
        files.load(encoder, state, self.weights, self.UNUSED)
        return encoder

    UNUSED: ClassVar[tuple[str, ...]] = ()
    """beginnings of names that its weights have and features do not need: of a classifier"""

    def fetch(self) -> files.State:
        """The weights that go by a name.

        Raises:
            UserError: when there are none.
        """
        raise UserError(f"encoder.weights {self.weights!r}: {self.called} has none by name; give the path of a file")

    def require_named_weights(self) -> None:
        """Refuse a name that there is not, without fetching anything.

        Raises:
            UserError: with near names.
        """

    def describe(self) -> str:
        """What it begins with, for people; empty where it begins at random."""
        if self.weights is None:
            return ""
        told = f"{self.called} begins with {self.weights}"
        if self.weights_file is None:
            told += ", which the node that needs it downloads unless it has it"
        return told + self.license()

    @property
    def called(self) -> str:
        """The network's name for people."""
        return str(getattr(self, "kind", ""))

    def license(self) -> str:
        """What is known of its weights' licence."""
        return ""
