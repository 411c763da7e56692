"""`synthcl.train`: what `synthcl train` does, from Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthcl.comparison.arms import OWN, apply_arm, require_arm
from synthcl.config.schema import Config
from synthcl.face.result import Result
from synthcl.face.settings import Images, settings


def train(
    images: Images | None = None,
    *,
    labels: str | Path | None = None,
    preset: str | Path | Config | None = None,
    arm: str = OWN,
    storage: str | Path | None = None,
    address: str | None = None,
    fresh: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> Result:
    """Train one encoder; the same call again continues, as the same command does. It takes no labels.

    Args:
        images: as of `synthcl.search`.
        labels: as of `synthcl.search`; where there are some, the encoder is scored on validation images.
        preset: as of `synthcl.search`.
        arm: `joint` is the whole method, `real-only` real images alone; `synthcl train --help` has the others.
        storage: as of `synthcl.search`.
        address: as of `synthcl.search`.
        fresh: forget an earlier training of this name.
        overrides: as of `synthcl.search`.

    Returns:
        The finished training.

    Raises:
        UserError: in one line, before anything is spent, what is wrong and what would be right.

    Example:
        result = synthcl.train("photos", labels="none")
        paths, features = synthcl.embed(result.encoder, "photos")
    """
    require_arm(arm)
    config = apply_arm(settings(images, labels, preset, storage, address, overrides), arm)
    from synthcl.cluster.train import run_training  # Ray takes seconds to import, and mistakes are told before

    return Result(run_training(config, f"train-{arm}", fresh=fresh), trust_code=True)
