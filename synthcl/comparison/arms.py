"""The arms of every comparison, as overrides of a configuration.

All arms of a configuration spend the same optimiser steps on the same number of views.
"""

from __future__ import annotations

from typing import Any

from synthcl.config.schema import Config
from synthcl.core.errors import UserError

_NONE = {"kind": "constant", "start": 0.0}

REAL_ONLY = "real-only"
"""The arm that every other one is compared with."""

ARMS: dict[str, dict[str, Any]] = {
    # SimCLR: two views of every real image.
    REAL_ONLY: {"curriculum.synthetic_fraction": _NONE, "curriculum.hardness": _NONE},
    # The control for "more views": four plain views of half as many real images.
    "real-four-views": {
        "curriculum.synthetic_fraction": _NONE,
        "curriculum.hardness": _NONE,
        "training.views_per_image": 4,
    },
    # Data inflation: samples of the warmed-up GAN as if they were more images.
    "frozen-gan": {"synthetic.gan.frozen": True, "synthetic.gan.pair": False, "curriculum.hardness": _NONE},
    # The same under AdaInf's weaker augmentation (Wang et al., ICLR 2024): views at WEAKER of the configuration's.
    "frozen-gan-weak-views": {"synthetic.gan.frozen": True, "synthetic.gan.pair": False, "curriculum.hardness": _NONE},
    # The min-max game alone: two views of G(z), no G_ema.
    "hard-only": {"synthetic.gan.pair": False},
    # (G(z), G_ema(z)) pairs that drift by GAN training alone.
    "pairs-only": {"curriculum.hardness": _NONE},
    # The full method with the configuration's own curriculum.
    "joint": {},
}

BASELINES = (REAL_ONLY, "frozen-gan")
"""Arms that every search runs beside its trials."""

OWN = "joint"
"""The arm a search has to beat: its winner is worth what it gains over the curriculum that it began with."""

EQUAL_TIME = f"{REAL_ONLY}-equal-time"
"""Real-only with as many more steps as take the time of `OWN`; its budget is measured, so it is none of `ARMS`."""

CONTROL = f"{REAL_ONLY}+"
"""`real-only+trial-009` is real-only with everything else as trial-009 has it: temperature and view strength help real
images too, so a searched curriculum is worth what it gains over this one."""


WEAKER = 0.7
"""Strength of the views of `frozen-gan-weak-views`, as a fraction of the configuration's own."""


def arm_overrides(arm: str, config: Config) -> dict[str, Any]:
    """What an arm overrides in a configuration.

    Raises:
        UserError: on an unknown arm.
    """
    if arm not in ARMS:
        raise UserError(f"arm {arm!r} is unknown; choose {', '.join(ARMS)}")
    if arm != "frozen-gan-weak-views":
        return ARMS[arm]
    return ARMS[arm] | {"curriculum.view_strength": config.curriculum.view_strength.scaled(WEAKER)}


def apply_arm(config: Config, arm: str) -> Config:
    """The configuration of one arm.

    Raises:
        UserError: on an unknown arm.
    """
    return config.with_overrides(arm_overrides(arm, config))
