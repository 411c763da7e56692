"""Views: a new one is a file here and a name in this union."""

from typing import Annotated

from pydantic import Field

from synthcl.core.plugin import kind_or
from synthcl.method.views.custom import CustomView
from synthcl.method.views.cutmix import CutmixConfig
from synthcl.method.views.erase import EraseConfig
from synthcl.method.views.field import FieldConfig
from synthcl.method.views.fill_mask import FillMaskConfig
from synthcl.method.views.hard_views import HardViewsConfig
from synthcl.method.views.mixup import MixupConfig
from synthcl.method.views.randaugment import RandaugmentConfig
from synthcl.method.views.resizemix import ResizemixConfig
from synthcl.method.views.rotation import RotationConfig
from synthcl.method.views.simclr import SimclrConfig
from synthcl.method.views.solarise import SolariseConfig
from synthcl.method.views.vertical_flip import VerticalFlipConfig
from synthcl.method.views.viewmaker import ViewmakerConfig

AnyView = Annotated[
    SimclrConfig
    | VerticalFlipConfig
    | RotationConfig
    | SolariseConfig
    | EraseConfig
    | RandaugmentConfig
    | FieldConfig
    | FillMaskConfig
    | ViewmakerConfig
    | HardViewsConfig
    | MixupConfig
    | CutmixConfig
    | ResizemixConfig
    | CustomView,
    Field(discriminator="kind"),
    kind_or("simclr"),
]
