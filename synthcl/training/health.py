"""Has a run failed? Limits on what is logged anyway, and patience before one of them ends it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from synthcl.config.schema import Config
from synthcl.config.sections import HealthConfig
from synthcl.core.errors import Diverged

POINTS = 5
"""a limit must be passed at so many logged points in a row at the least"""


def passed_limits(values: Mapping[str, float], limits: HealthConfig) -> dict[str, str]:
    """What is wrong at one logged point, by statistic; a statistic that was not measured is not judged.

    Args:
        values: statistics of `joint.joint_step`, averaged since the last point.
        limits: the health section.

    Returns:
        {statistic: what it says}, empty at a healthy point.
    """
    checks = [
        ("encoder/variance", "below", limits.embedding_variance_min, "the encoder collapsed, all embeddings agree")
    ]
    if "gan/accuracy" in values:  # G and D learn; what a frozen G makes is not the run's doing
        checks += [
            ("synthetic/diversity", "below", limits.diversity_min, "the generator collapsed, its images are all alike"),
            ("gan/accuracy", "above", limits.discriminator_accuracy_max, "the discriminator won, it is never fooled"),
        ]
    found = {}
    for name, side, limit, what in checks:
        if name in values and (max(values[name], 0.0) < limit if side == "below" else values[name] > limit):
            found[name] = f"{what}: {name} {values[name]:.4g} is {side} {limit:g}"
    return found


class Health:
    """Follows the logged points of one run.

    Args:
        config: its health section and budget.
    """

    def __init__(self, config: Config) -> None:
        self._limits = config.health
        shortest = 1000 * config.health.patience_kimg / config.training.batch_images
        self._patience_steps = max(shortest, config.health.patience_fraction * config.training.steps)
        self._streaks: dict[str, tuple[int, int]] = {}  # statistic: step of its first bad point, bad points in a row

    @property
    def suspect(self) -> bool:
        """Whether some limit was passed at the last point: a state not to go back to."""
        return bool(self._streaks)

    def observe(self, values: Mapping[str, float], step: int) -> None:
        """Judge one logged point.

        Args:
            values: the point's statistics.
            step: optimiser steps made by then.

        Raises:
            Diverged: naming a value that is not finite, or a limit passed for longer than the patience.
        """
        for name, value in sorted(values.items(), key=lambda item: not item[0].startswith("loss/")):
            if not math.isfinite(value):
                raise Diverged(f"{name} became {value} by step {step}")
        found = passed_limits(values, self._limits)
        streaks = {name: self._streaks.get(name, (step, 0)) for name in found}
        self._streaks = {name: (first, points + 1) for name, (first, points) in streaks.items()}
        for name, (first, points) in self._streaks.items():
            if points >= POINTS and step - first >= self._patience_steps:
                raise Diverged(f"{found[name]} at {points} logged points in a row, from step {first} to {step}")

    def judge_features(self, metrics: Mapping[str, float]) -> None:
        """Judge what a rung measured on the encoder's features.

        Raises:
            Diverged: when their effective rank is below the limit.
        """
        rank = metrics.get("features/rank", math.inf)
        if rank < self._limits.feature_rank_min:
            raise Diverged(
                "the encoder collapsed: its features have nearly one direction, features/rank "
                f"{rank:.3g} is below {self._limits.feature_rank_min:g}"
            )

    def state_dict(self) -> dict[str, tuple[int, int]]:
        """The streaks that run."""
        return dict(self._streaks)

    def load_state_dict(self, state: Mapping[str, tuple[int, int]]) -> None:
        """Go on from `state_dict`."""
        self._streaks = dict(state)
