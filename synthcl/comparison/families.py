"""Families that are tuned against each other, and the settings that each of them tries.

A family is an arm with or without mechanisms, such as `joint+imix`. Every family tries equally many settings, and what
families share has the same values in all of them: setting 7 of one and of another differ in their own fields alone.
Setting 0 is the configuration itself, so that nobody loses what a preset was given. The others are points of Sobol's
sequence, shifted by a random number for each field; a larger budget adds settings and keeps the ones before.

Source: Sobol', "On the distribution of points in a cube", USSR Computational Mathematics 1967; Bergstra and Bengio,
"Random Search for Hyper-Parameter Optimization", JMLR 2012, on low-discrepancy points for few trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from synthcl.comparison.arms import OWN, REAL_ONLY, arm_overrides, arms_of
from synthcl.comparison.mechanisms import MECHANISMS
from synthcl.config.compatibility import flat
from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.core.rng import generator

VIEW_STRENGTH = "curriculum.view_strength"
_WEAK = "frozen-gan-weak-views"
"""an arm that is no family: its view strength is tuned like any other's"""
_REGULARISERS = ("imix", "vicreg")
"""that real images and the joint method have by default"""


@dataclass(frozen=True)
class Range:
    """Values of a field that are tried."""

    field: str
    low: float
    high: float
    log: bool = False
    relative: bool = False
    """whether they are multiples of the configuration's own value"""

    def at(self, share: float, own: float = 1.0) -> float:
        """The value at a share of the range in [0, 1), to three digits.

        Example:
            >>> Range("training.learning_rate", 0.3, 3.0, log=True, relative=True).at(0.5, 0.01)
            0.00949
        """
        ratio = self.high / self.low if self.log else 0.0
        value = self.low * ratio**share if self.log else self.low + (self.high - self.low) * share
        return float(f"{value * (own if self.relative else 1.0):.3g}")


SHARED = (
    Range(VIEW_STRENGTH, 0.3, 1.6),
    Range("terms.contrast.temperature", 0.07, 0.5, log=True),
    Range("training.learning_rate", 0.3, 3.0, log=True, relative=True),
    Range("training.weight_decay", 0.1, 10.0, log=True, relative=True),
)
"""what every family tunes: the ranges of the search space `opponent`"""


@dataclass(frozen=True)
class Family:
    """An arm with its mechanisms."""

    arm: str
    mechanisms: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return "+".join((self.arm, *self.mechanisms))

    @classmethod
    def read(cls, name: str) -> Family:
        """A family by its name.

        Raises:
            UserError: on an unknown mechanism, or two that exclude each other.

        Example:
            >>> Family.read("joint+imix").mechanisms
            ('imix',)
        """
        arm, *mechanisms = name.split("+")
        for mechanism in mechanisms:
            if mechanism not in MECHANISMS:
                raise UserError(f"family {name!r}: mechanism {mechanism!r} is unknown; choose {', '.join(MECHANISMS)}")
        fields = [MECHANISMS[mechanism].strength for mechanism in mechanisms]
        if len({*fields}) < len(fields):
            raise UserError(f"family {name!r} sets {max(fields, key=fields.count)} twice; name one of its mechanisms")
        return cls(arm, tuple(mechanisms))

    @property
    def is_joint(self) -> bool:
        return self.arm == OWN

    @property
    def is_real_only(self) -> bool:
        return self.arm == REAL_ONLY

    def setting(self, number: int) -> str:
        """What the arm with one of its settings is called.

        Example:
            >>> Family("joint", ("imix",)).setting(7)
            'joint+imix@07'
        """
        return f"{self.name}@{number:02d}"

    def ranges(self, base: Config) -> list[Range]:
        """What it tunes: what all share, as far as the configuration has it, then how strong its mechanisms are.

        Args:
            base: the configuration that families change.
        """
        has = flat(base.model_dump(mode="json"))
        shared = [each for each in SHARED if any(f"{field}.".startswith(f"{each.field}.") for field in has)]
        mechanisms = [MECHANISMS[name] for name in self.mechanisms]
        return [*shared, *(Range(each.strength, each.tried[0], each.tried[-1], log=True) for each in mechanisms)]

    def settings(self, base: Config, count: int) -> list[dict[str, Any]]:
        """Overrides of every setting it tries, the configuration's own first, with mechanisms in the middle.

        Args:
            base: the configuration that families change; its seed decides the points.
            count: how many.

        Raises:
            UserError: as of `arm_overrides`.
        """
        members: dict[str, Any] = arm_overrides(self.arm, base)
        for name in self.mechanisms:
            members = members | MECHANISMS[name].overrides(MECHANISMS[name].tried[1])
        own, ranges = flat(base.model_dump(mode="json")), self.ranges(base)
        shares = points(base.training.seed, [each.field for each in ranges], count - 1)
        tried = [
            {each.field: each.at(share, own.get(each.field, 1.0)) for each, share in zip(ranges, row, strict=True)}
            for row in shares
        ]
        return [members, *({**members, **values} for values in tried)]


def points(seed: int, fields: Sequence[str], count: int) -> list[list[float]]:
    """Shares of the ranges of some fields, spread evenly over all of them together.

    Args:
        seed: of the shift of each field.
        fields: in order; the numbers of one depend on its place and its name, and not on the fields after it.
        count: how many points; the first ones are the same for any number.

    Returns:
        `count` lists of numbers in [0, 1), one a field.
    """
    from scipy.stats import qmc  # takes longer to import than this package

    if count < 1:
        return []
    sequence = qmc.Sobol(len(fields), scramble=False).random_base2((count - 1).bit_length())[:count]
    shifts = [float(torch.rand((), generator=generator(seed, "tuned settings", field))) for field in fields]
    return [[(float(value) + shift) % 1.0 for value, shift in zip(row, shifts, strict=True)] for row in sequence]


def default_families(config: Config) -> list[str]:
    """Real images alone and the joint method, each plain and with each cheap regulariser, and the frozen GAN."""
    frozen = ["frozen-gan"] * ("frozen-gan" in arms_of(config))
    with_each = {arm: [arm, *(f"{arm}+{name}" for name in _REGULARISERS)] for arm in (REAL_ONLY, OWN)}
    return [*with_each[REAL_ONLY], *frozen, *with_each[OWN]]


def read_families(text: str | None, config: Config) -> list[Family]:
    """Families from a list such as `real-only,joint+imix`; the default ones where there is none.

    Raises:
        UserError: on an unknown arm or mechanism, or one whose source the configuration lacks.
    """
    families = [Family.read(name) for name in dict.fromkeys(text.split(",") if text else default_families(config))]
    for family in families:
        arm_overrides(family.arm, config)
        if family.arm == _WEAK:
            raise UserError(f"family {family.name!r}: every family's view strength is tuned; name frozen-gan instead")
    return families
