"""The arms of every comparison, as overrides of a configuration.

All arms of a configuration spend the same optimiser steps on the same number of views.
"""

from __future__ import annotations

from typing import Any

from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.method.synthetic.folder import FolderConfig
from synthcl.method.views.simclr import SimclrConfig

_NONE = {"kind": "constant", "start": 0.0}

REAL_ONLY = "real-only"
"""The arm that every other one is compared with."""

_NO_PAIR = {"synthetic.gan.pair": False, "synthetic.gan.walk": _NONE}  # without one there is nowhere to walk to
_FROZEN = {"synthetic.gan.frozen": True, **_NO_PAIR, "curriculum.hardness": _NONE}

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
    "frozen-gan": _FROZEN,
    # The same under weaker augmentation: views at WEAKER of the configuration's.
    "frozen-gan-weak-views": _FROZEN,
    # AdaInf (Wang et al., ICLR 2024): two thirds of the views are generated, as of ten copies of each of 50,000 images
    # beside a million samples, and crops and colours are weaker by what `weaker_ranges` says.
    "frozen-gan-adainf": _FROZEN | {"curriculum.synthetic_fraction": {"kind": "constant", "start": 2 / 3}},
    # From Fake to Real (Qraitem et al., 2023): generated images first, real ones afterwards, never mixed.
    "frozen-gan-then-real": _FROZEN
    | {
        "curriculum.synthetic_fraction": {"kind": "step", "start": 1.0, "end": 0.0, "ramp_begin": 0.3},
        "training.restart_at": 0.3,
    },
    # The min-max game alone: two views of G(z), no G_ema.
    "hard-only": _NO_PAIR,
    # (G(z), G_ema(z)) pairs that drift by GAN training alone.
    "pairs-only": {"curriculum.hardness": _NONE},
    # Folders of images that somebody has made already, as the configuration has them; no GAN, and nobody plays.
    "folder-synthetic": {"synthetic.gan": None, "curriculum.hardness": _NONE},
    # The full method with the configuration's own curriculum and all its sources.
    "joint": {},
}

BASELINES = (REAL_ONLY, "frozen-gan")
"""Arms that a search runs beside its trials, see `baselines`."""
_OF_GAN = (
    *("frozen-gan", "frozen-gan-weak-views", "frozen-gan-adainf", "frozen-gan-then-real"),
    *("hard-only", "pairs-only"),
)
"""arms of the GAN alone: folders are taken away"""

OWN = "joint"
"""The arm a search has to beat: its winner is worth what it gains over the curriculum that it began with."""

EQUAL_TIME = f"{REAL_ONLY}-equal-time"
"""Real-only with as many more steps as take the time of `OWN`; its budget is measured, so it is none of `ARMS`."""

CONTROL = f"{REAL_ONLY}+"
"""`real-only+trial-009` is real-only with everything else as trial-009 has it: temperature and view strength help real
images too, so a searched curriculum is worth what it gains over this one."""


WEAKER = 0.7
"""Strength of the views of `frozen-gan-weak-views`, as a fraction of the configuration's own."""


def require_arm(arm: str) -> None:
    """
    Raises:
        UserError: on an unknown arm.
    """
    if arm not in ARMS:
        raise UserError(f"arm {arm!r} is unknown; choose {', '.join(ARMS)}")


def arm_overrides(arm: str, config: Config) -> dict[str, Any]:
    """What an arm overrides in a configuration.

    Raises:
        UserError: on an unknown arm, or one whose source the configuration lacks.
    """
    require_arm(arm)
    if arm not in arms_of(config):
        needed = "gan" if arm in _OF_GAN else "mine={kind: folder, path: PATH}"
        raise UserError(
            f"arm {arm!r} needs a source that the configuration lacks, which has synthetic {sorted(config.synthetic)}; "
            f"add synthetic.{needed}"
        )
    folders = [name for name, source in config.synthetic.items() if isinstance(source, FolderConfig)]
    alone = {f"synthetic.{name}": None for name in folders} if arm in _OF_GAN else {}
    chosen = ARMS[arm] | alone
    if arm == "frozen-gan-adainf":
        return chosen | weaker_ranges(config.base_view)
    if arm == "frozen-gan-weak-views":
        return chosen | {"curriculum.view_strength": config.curriculum.view_strength.scaled(WEAKER)}
    return chosen


def weaker_ranges(views: SimclrConfig) -> dict[str, float]:
    """What AdaInf makes of a configuration's views: crops lose less, jitter has half its ranges and probability.

    From crops of 0.08 of the area and more, jitter of 0.8 with probability 0.8 and a hue of 0.2 it goes to 0.2, 0.4,
    0.4 and 0.1; grey, blur and flips stay. Other views are weakened by the same factors.

    Source: Wang et al., "Do Generated Data Always Help Contrastive Learning?", ICLR 2024, symmetric views of its code.
    """
    lost = (1 - 0.2) / (1 - 0.08) * (1 - views.crop_area_min)
    halved = ("jitter_probability", "brightness", "contrast", "saturation", "hue")
    return {"views.base.crop_area_min": 1 - lost} | {f"views.base.{name}": getattr(views, name) / 2 for name in halved}


def arms_of(config: Config) -> list[str]:
    """The arms whose sources a configuration has."""
    kinds = {source.kind for source in config.synthetic.values()}
    lacking = [*_OF_GAN] * ("gan" not in kinds) + ["folder-synthetic"] * ("folder" not in kinds)
    return [arm for arm in ARMS if arm not in lacking]


def default_arms(config: Config) -> list[str]:
    """What a comparison of this configuration has by default: each of its sources alone, and all of them."""
    alone = ["frozen-gan"] * ("gan" in config.synthetic) + ["folder-synthetic"] * (len(config.synthetic) > 1)
    return [REAL_ONLY, *(arm for arm in alone if arm in arms_of(config)), OWN]


def baselines(config: Config) -> tuple[str, ...]:
    """Arms that a search of this configuration runs beside its trials."""
    return BASELINES if "gan" in config.synthetic else (REAL_ONLY,)


def apply_arm(config: Config, arm: str) -> Config:
    """The configuration of one arm.

    Raises:
        UserError: on an unknown arm.
    """
    return config.with_overrides(arm_overrides(arm, config))
