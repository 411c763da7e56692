"""How long runs take, at the speed of runs that have finished."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from statistics import mean
from typing import Any

from synthcl.comparison.arms import EQUAL_TIME, REAL_ONLY
from synthcl.comparison.plan import Run
from synthcl.comparison.records import Place


def hours(runs: Iterable[Run], place: Place) -> float | None:
    """How long runs take one after the other, at the speed of runs that have finished under the same storage.

    Args:
        runs: of a comparison.
        place: of the comparison; all comparisons beside it are looked at, those with the same networks, images and
            batches count.

    Returns:
        None where a kind of arm has not been measured.
    """
    measured: dict[tuple[str, str], list[float]] = {}
    for file in sorted(place.records.parent.parent.glob("*/evidence/*.json")):
        try:
            tree = json.loads(file.read_text())
            kind = _shown(tree["config"]), _kind(tree["arm"])
            measured.setdefault(kind, []).append(sum(tree["seconds"].values()) / tree["steps"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
            continue  # of an earlier version, or cut short: it measures nothing
    seconds = 0.0
    for run in runs:
        known = measured.get((_shown(run.config.model_dump(mode="json")), _kind(run.arm)))
        if not known:
            return None
        seconds += mean(known) * run.config.training.steps
    return seconds / 3600


def _kind(arm: str) -> str:
    """The arm without its mechanism, strength and setting, which take little of a step's time.

    Example:
        >>> _kind("joint+mixup@1"), _kind("real-only@07"), _kind("real-only-equal-time")
        ('joint', 'real-only', 'real-only')
    """
    kind = re.split("[+@=]", arm)[0]
    return REAL_ONLY if kind == EQUAL_TIME else kind


def _shown(config: Mapping[str, Any]) -> str:
    """What the time of a step depends on, beside the kind of arm."""
    return json.dumps([config["encoder"], config["data"]["image_size"], config["training"]["batch_images"]])
