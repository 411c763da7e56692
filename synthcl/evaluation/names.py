"""Names of scores: a probe is named by the labels it was fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synthcl.config.schema import Config


def labels(entry: float) -> str:
    """How a name says on how many labels a probe was fitted.

    Args:
        entry: of `evaluation.label_fractions`: a share in (0, 1] of the labels, or above 1 a number of labels.

    Returns:
        `@<percent>` of a share, `@<count>-labels` of a number.

    Example:
        >>> labels(0.1), labels(10000)
        ('@10', '@10000-labels')
    """
    return f"@{entry:.0f}-labels" if entry > 1 else f"@{100 * entry:g}"


def fitted(count: int, available: int) -> str:
    """The same for a probe on `count` of the `available` labels, where no share was asked for."""
    return labels(1.0 if count >= available else count)


def linear(source: str, entry: float) -> str:
    """The logistic probe on an entry of `evaluation.label_fractions`, without its split: `linear/cifar10@10`."""
    return f"linear/{source}{labels(entry)}"


def headline(config: Config) -> str:
    """The linear score that a search compares, without its split: that of the entry with the most labels."""
    return linear(config.data.source, config.evaluation.headline)


def transfer(metrics: Mapping[str, float]) -> float:
    """The mean validation score on other data sets, by the probe of the rung: ridge before the last, logistic there.

    Raises:
        KeyError: where transfer was not measured.
    """
    last = "val/transfer/mean"
    return metrics[last if last in metrics else "val/transfer-ridge/mean"]


def renamed(metrics: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """Recorded scores under today's names.

    Before `evaluation.label_fractions` could hold numbers of labels, the probe on at most `max_label_images` labels
    was called `@100`. config/compatibility.py lets a run continue only where that number is the same.

    Args:
        metrics: by name, perhaps recorded by an earlier version.
        config: of the run.
    """
    if 1.0 in config.evaluation.label_fractions:
        return dict(metrics)
    earlier, today = linear(config.data.source, 1.0), headline(config)
    return {
        f"{name.removesuffix(earlier)}{today}" if name.endswith(f"/{earlier}") else name: value
        for name, value in metrics.items()
    }
