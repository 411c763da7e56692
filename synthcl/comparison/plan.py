"""What is compared: arms x numbers of images x seeds, every run a whole configuration.

A seed is a whole repetition: its own draw of the unlabelled images, so its own GAN, its own labels and validation cut,
and its own training. Intervals over seeds thus speak of other images than those at hand, not of one lucky draw.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from synthcl.comparison.arms import ARMS, REAL_ONLY, arm_overrides
from synthcl.config.positives import require_positives_to_weigh
from synthcl.config.schema import Config
from synthcl.config.sections import DataConfig
from synthcl.core.errors import UserError
from synthcl.data import open_split, open_synthetic
from synthcl.evaluation.labels import require_labels
from synthcl.evaluation.panel import require_panel
from synthcl.training.plan import require_enough_images

_COUNTED = {"image_fraction": 1.0, "resident_limit_mib": 1e-6}
"""files are counted, not decoded"""

Arms = dict[str, dict[str, Any]]
"""name -> overrides by dotted field"""


@dataclass(frozen=True)
class Run:
    """One arm trained on so many unlabelled images with one seed."""

    arm: str
    images: int
    seed: int
    config: Config

    @property
    def label(self) -> str:
        return f"{self.arm}-n{self.images}-seed{self.seed}"


def plan(base: Config, arms: Arms, counts: list[int], seeds: int, oracle: Sequence[int] = ()) -> list[Run]:
    """Every run of a comparison; a whole comparison of the first seed comes first.

    Args:
        base: the configuration that arms change; its seed is the first.
        arms: from `read_arms`.
        counts: numbers of unlabelled images; a seed's images of a smaller number are among those of a larger one.
        seeds: how many.
        oracle: numbers of images that real-only is trained with as well.

    Raises:
        UserError: when a number of images or of labels is too small or too large, or an arm has another budget.
    """
    if base.compute.workers_per_trial > 1:
        raise UserError(
            f"compute.workers_per_trial={base.compute.workers_per_trial}: here a run is one process; set it to 1"
        )
    require_positives_to_weigh(base)
    total = unlabelled_count(base.data)
    _require_labels(base)
    runs = []
    for seed in range(base.training.seed, base.training.seed + seeds):
        for count in sorted({*counts, *oracle}):
            if not 1 <= count <= total:
                raise UserError(f"images {count}: data.source {base.data.source!r} has {total} unlabelled images")
            chosen = arms if count in counts else {}
            if count in oracle:
                chosen = chosen | {REAL_ONLY: ARMS[REAL_ONLY]}
            for arm, given in chosen.items():
                overrides = arm_overrides(arm, base) if arm in ARMS else given
                own = {"data.image_fraction": count / total, "data.split_seed": seed, "training.seed": seed}
                config = base.with_overrides(overrides | own)
                _require_equal_budget(arm, config, base)
                require_enough_images(config, count)
                require_panel(config)
                runs.append(Run(arm, count, seed, config))
    return runs


def describe_folders(runs: Sequence[Run]) -> Iterator[str]:
    """What every draw of images finds in each folder of synthetic images, before anything is trained on it.

    Args:
        runs: of a plan; those of one number of images and one seed have the same draw.

    Raises:
        UserError: when a folder cannot be used with some draw.
    """
    told: set[tuple[int, int, str]] = set()
    for run in runs:
        for name, section in run.config.folders_on.items():
            if (run.images, run.seed, name) not in told:
                told.add((run.images, run.seed, name))
                found = open_synthetic(run.config.data, name, section, "cpu")
                yield f"{name}, {run.images:,} images, seed {run.seed}: {found.describe()}"


def read_arms(text: str) -> Arms:
    """Arms from a list such as `real-only,joint,tuned=winner.yaml`.

    A file holds `{dotted field: value}`, or has such a mapping under `overrides`, as a confirm record of a search has.

    Raises:
        UserError: on an unknown arm, a name given twice or an unusable file.
    """
    arms: Arms = {}
    for item in filter(None, text.split(",")):
        name, separator, file = item.partition("=")
        if name in arms or (separator and name in ARMS):
            raise UserError(f"arm {name!r} is there already; give {item!r} another name")
        if separator:
            arms[name] = _read_overrides(name, Path(file))
        elif name in ARMS:
            arms[name] = ARMS[name]
        else:
            raise UserError(
                f"arm {name!r} is unknown; choose {', '.join(ARMS)}, or name=FILE with overrides of your own"
            )
    if not arms:
        raise UserError(f"--arms {text!r} names no arm; choose from {', '.join(ARMS)}")
    return arms


def read_counts(text: str | None, base: Config, headroom: bool) -> list[int]:
    """Numbers of images from a list such as `500,1000,all`; by default what the configuration itself uses.

    With `headroom` they go on from the smallest as n, 2n, 5n, 10n, ... up to all there are.

    Raises:
        UserError: on anything but whole numbers and `all`.
    """
    total = unlabelled_count(base.data)
    counts = {max(1, round(base.data.image_fraction * total))}
    if text is not None:
        items = text.replace("_", "").split(",")
        if not all(item == "all" or (item.isdecimal() and int(item) > 0) for item in items):
            raise UserError(f"--images {text!r} is not a list of numbers such as 500,1000,all")
        counts = {total if item == "all" else int(item) for item in items}
    if headroom:
        smallest = min(counts)
        series = (smallest * step * 10**power for power in range(len(str(total))) for step in (1, 2, 5))
        counts |= {count for count in series if count < total} | {total}
    return sorted(counts)


@lru_cache(maxsize=4)
def unlabelled_count(config: DataConfig) -> int:
    """How many unlabelled images a data set has for pretraining."""
    return len(open_split(config.model_copy(update=_COUNTED), "unlabelled", "cpu").images)


def _require_labels(base: Config) -> None:
    split = open_split(base.data.model_copy(update=_COUNTED), "train", "cpu")
    require_labels(base.evaluation, len(split.labels), len(split.classes))


def _read_overrides(name: str, file: Path) -> dict[str, Any]:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(f"arm name {name!r} must be of letters, digits and . _ -")
    try:
        tree = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"arm {name!r}: {str(file)!r} cannot be read: {str(error).splitlines()[0]}") from None
    if isinstance(tree, dict) and isinstance(tree.get("overrides"), dict):
        tree = tree["overrides"]
    if not isinstance(tree, dict):
        raise UserError(f"arm {name!r}: {str(file)!r} must hold dotted fields with values, not {type(tree).__name__}")
    return {field: value for field, value in tree.items() if field != "training.seed"}


def _require_equal_budget(arm: str, config: Config, base: Config) -> None:
    own, wanted = ((c.training.steps, 2 * c.training.batch_images) for c in (config, base))
    if own != wanted:
        raise UserError(
            f"arm {arm!r} trains {own[0]} steps of {own[1]} views, the comparison {wanted[0]} of {wanted[1]}; "
            "arms are compared at equal steps and equal views"
        )
