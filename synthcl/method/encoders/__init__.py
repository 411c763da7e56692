"""Encoders and the heads on them: a new one is a file here and a name in its union."""

from typing import Annotated

from pydantic import Field

from synthcl.core.plugin import kind_or
from synthcl.method.encoders.conv import ConvConfig
from synthcl.method.encoders.custom import CustomEncoder
from synthcl.method.encoders.fixed_head import FixedConfig
from synthcl.method.encoders.projector import MlpConfig
from synthcl.method.encoders.resnet import ResnetConfig
from synthcl.method.encoders.section import AnyStyle
from synthcl.method.encoders.timm_backbone import TimmEncoder

AnyEncoder = Annotated[
    ConvConfig | ResnetConfig | TimmEncoder | CustomEncoder, Field(discriminator="kind"), kind_or("conv")
]
__all__ = ["AnyEncoder", "AnyHead", "AnyStyle"]
AnyHead = Annotated[MlpConfig | FixedConfig, Field(discriminator="kind"), kind_or("mlp")]
