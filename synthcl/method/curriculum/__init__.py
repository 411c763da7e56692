"""Schedules and mixes, one kind a section: a new one is a file here and a name in its union."""

from typing import Annotated

from pydantic import Field

from synthcl.core.plugin import kind_or
from synthcl.method.curriculum.curves import Piecewise, Table
from synthcl.method.curriculum.dual import Dual
from synthcl.method.curriculum.exp3 import Exp3
from synthcl.method.curriculum.follow import Follow
from synthcl.method.curriculum.mix_table import MixTable
from synthcl.method.curriculum.ramps import Constant, Cosine, Exponential, Linear, Step
from synthcl.method.curriculum.schedule import NUMBER
from synthcl.method.curriculum.tanh import Tanh
from synthcl.method.curriculum.ucb1 import Ucb1

AnySchedule = Annotated[
    Constant | Linear | Cosine | Step | Exponential | Tanh | Piecewise | Table | Follow | Dual,
    Field(discriminator="kind"),
    kind_or("constant"),
    NUMBER,
]
AnyMix = Annotated[Exp3 | Ucb1 | MixTable, Field(discriminator="kind")]
"""what shares a step's views among real images and sources, in place of `synthetic_fraction` and portions"""
