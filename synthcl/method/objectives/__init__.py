"""Terms of the encoder's loss: a new one is a file here and a name in this union."""

from typing import Annotated

from pydantic import Field

from synthcl.core.plugin import kind_or
from synthcl.method.objectives.adaptive import AdaptiveConfig
from synthcl.method.objectives.barlow import BarlowConfig
from synthcl.method.objectives.byol import ByolConfig
from synthcl.method.objectives.custom import CustomTerm
from synthcl.method.objectives.dann import DannConfig
from synthcl.method.objectives.decoupled import DecoupledConfig
from synthcl.method.objectives.distil import DistilConfig
from synthcl.method.objectives.halp import HalpConfig
from synthcl.method.objectives.implicit import ImplicitConfig
from synthcl.method.objectives.mochi import MochiConfig
from synthcl.method.objectives.moco import MocoConfig
from synthcl.method.objectives.nnclr import NnclrConfig
from synthcl.method.objectives.ppcl import PpclConfig
from synthcl.method.objectives.rotation import RotationTermConfig
from synthcl.method.objectives.simsiam import SimsiamConfig
from synthcl.method.objectives.vicreg import VicregConfig

AnyTerm = Annotated[
    PpclConfig
    | DecoupledConfig
    | VicregConfig
    | BarlowConfig
    | MocoConfig
    | ByolConfig
    | SimsiamConfig
    | NnclrConfig
    | HalpConfig
    | MochiConfig
    | AdaptiveConfig
    | ImplicitConfig
    | DannConfig
    | RotationTermConfig
    | DistilConfig
    | CustomTerm,
    Field(discriminator="kind"),
    kind_or("ppcl"),
]
