"""Views: a new one is a file here and a name in this union."""

from typing import Annotated

from pydantic import Field

from synthcl.core.plugin import kind_or
from synthcl.method.views.custom import CustomView
from synthcl.method.views.mixup import MixupConfig
from synthcl.method.views.resizemix import ResizemixConfig
from synthcl.method.views.simclr import SimclrConfig

AnyView = Annotated[
    SimclrConfig | MixupConfig | ResizemixConfig | CustomView, Field(discriminator="kind"), kind_or("simclr")
]
