"""How well scores without labels choose encoders, where labels were there to see it, and which of them may judge.

A group is what somebody would choose among: all arms trained on the same images with one seed, at equal steps. Within
it a score is set against the probe: do they put the arms in the same order, and what does the arm that the score likes
best reach on the probe? Groups of one seed are averaged; intervals are over seeds, Student's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from synthcl.comparison.arms import EQUAL_TIME, REAL_ONLY
from synthcl.comparison.intervals import Estimate, paired_difference
from synthcl.comparison.records import Record
from synthcl.config.schema import Config
from synthcl.core.tables import filled
from synthcl.evaluation import names
from synthcl.evaluation.panel import CLAIMED, LOGGED, goodness

MIN_SEEDS, MIN_ARMS = 3, 4
MOST_REGRET = 0.5
"""of a random arm's"""
RULE = (
    f"A score may judge when, over {MIN_SEEDS} seeds or more with {MIN_ARMS} arms or more each, {REAL_ONLY} among "
    "them: its Kendall correlation with the probe is above 0, and so is what its choice gains over a random arm, both "
    "with the whole interval; and its choice loses at most half as much to the best arm as a random one does."
)
MAY, MAY_NOT = "may judge", "may not"

Group = tuple[str, int, int]
"""comparison, number of images, seed"""


@dataclass(frozen=True)
class Choice:
    """What a score does over all groups that have it; estimates are means over seeds."""

    kendall: Estimate
    spearman: Estimate
    over_chance: Estimate
    """what its choice reaches beyond the mean of all arms, in points of the probe"""
    regret: Estimate
    """what the best arm reaches beyond its choice, in points"""
    chance: Estimate
    """what the best arm reaches beyond the mean of all arms, in points"""
    groups: int
    fewest_arms: int
    with_real_only: bool

    @property
    def hindrance(self) -> str:
        """Which part of the rule it fails; empty of one that may judge."""
        if self.kendall.n < MIN_SEEDS:
            return f"{self.kendall.n} of {MIN_SEEDS} seeds"
        if self.fewest_arms < MIN_ARMS:
            return f"{self.fewest_arms} of {MIN_ARMS} arms"
        if not self.with_real_only:
            return f"without {REAL_ONLY}"
        if (self.over_chance.high or 0.0) < 0:
            return "worse than a random arm"
        if not (self.kendall.low or 0.0) > 0:
            return "its order is not the probe's"
        if not (self.over_chance.low or 0.0) > 0:
            return "no better than a random arm"
        if self.regret.value > MOST_REGRET * self.chance.value:
            return "too far from the best arm"
        return ""


@dataclass(frozen=True)
class Calibration:
    """What records say of every score without labels."""

    probe: str
    """the metric that says how good an encoder is"""
    arms: tuple[str, ...]
    records: int
    choices: dict[str, Choice | None]
    """by metric; None of one that no group has"""
    reference: Choice | None
    """the same probe on validation, which takes labels; None where it is the probe"""

    def hindrance(self, metric: str) -> str:
        """Why a score may not judge; empty of one that may."""
        choice = self.choices.get(metric)
        return choice.hindrance if choice else "not measured"

    def as_json(self) -> dict[str, Any]:
        """Everything above as plain values, with the verdicts."""
        return asdict(self) | {
            "rule": RULE,
            "hindrances": {metric: self.hindrance(metric) for metric in self.choices},
        }

    def table(self) -> list[list[str]]:
        """A row a score, and two to read them by."""
        columns = ("Kendall", "Spearman", "over a random arm, points", "below the best arm, points", "verdict")
        rows = [
            (
                [metric],
                _cells(choice) | {"verdict": MAY if not (why := self.hindrance(metric)) else f"{MAY_NOT}: {why}"},
            )
            for metric, choice in self.choices.items()
        ]
        if self.reference:
            rows.append((["the probe on validation"], _cells(self.reference) | {"verdict": "takes labels"}))
            rows.append((["a random arm"], {columns[2]: "0", columns[3]: _positive(self.reference.chance)}))
        return filled(("score",), columns, rows, missing="")


def _cells(choice: Choice | None) -> dict[str, Any]:
    if choice is None:
        return {}
    return {
        "Kendall": str(choice.kendall),
        "Spearman": f"{choice.spearman.value:+.2f}",
        "over a random arm, points": str(choice.over_chance),
        "below the best arm, points": _positive(choice.regret),
    }


def _positive(estimate: Estimate) -> str:
    ends = "" if estimate.low is None else f" [{estimate.low:.2f}, {estimate.high:.2f}]"
    return f"{estimate.value:.2f}{ends}"


def calibrate(comparisons: Mapping[str, tuple[Config, list[Record]]], arms: Iterable[str] = ()) -> Calibration:
    """What the records of comparisons say of scores without labels.

    Args:
        comparisons: by name, the configuration and the records of each, read with it.
        arms: only these; none means all. Real-only in equal time is left out, since it has another budget.
    """
    only = {*arms}
    groups: dict[Group, list[Record]] = {}
    probes: dict[Group, tuple[str, str]] = {}
    for name, (config, records) in comparisons.items():
        usable = [r for r in records if not r.diverged and r.arm != EQUAL_TIME and (not only or r.arm in only)]
        probe = _probe(config, usable)
        for record in usable:
            group = name, record.images, record.seed
            groups.setdefault(group, []).append(record)
            probes[group] = probe
    groups = {group: sorted(own, key=lambda r: r.arm) for group, own in groups.items() if len(own) > 1}

    def judged(metric: str) -> Choice | None:
        return _choice(groups, lambda record: _measured(record, metric), lambda group: probes[group][0])

    kept = [record for own in groups.values() for record in own]
    on_test = {probe for probe, _ in probes.values() if probe.startswith("test/")}
    return Calibration(
        probe=", ".join(sorted({probe for probe, _ in probes.values()})),
        arms=tuple(sorted({record.arm for record in kept})),
        records=len(kept),
        choices={m: judged(m) for m in CLAIMED if m in LOGGED or any(m in record.metrics for record in kept)},
        reference=_choice(groups, _on_validation(comparisons), lambda group: probes[group][0]) if on_test else None,
    )


def _probe(config: Config, records: list[Record]) -> tuple[str, str]:
    """The metric on test where every record has it, else on validation; and the latter."""
    last = names.headline(config)
    measured = [record.metrics for record in records]
    if not any(f"{part}/{last}" in metrics for metrics in measured for part in ("test", "val")):
        last = "transfer/mean"
    on_test = bool(measured) and all(f"test/{last}" in metrics for metrics in measured)
    return f"{'test' if on_test else 'val'}/{last}", f"val/{last}"


def _measured(record: Record, metric: str) -> float | None:
    value = record.metrics.get(metric, record.statistics.get(metric))
    return None if value is None else goodness(metric, value)


def _on_validation(comparisons: Mapping[str, tuple[Config, list[Record]]]) -> Callable[[Record], float | None]:
    metrics = {_probe(config, records)[1] for config, records in comparisons.values()}

    def value(record: Record) -> float | None:
        return next((record.metrics[metric] for metric in metrics if metric in record.metrics), None)

    return value


def _choice(
    groups: Mapping[Group, list[Record]],
    score: Callable[[Record], float | None],
    probe: Callable[[Group], str],
) -> Choice | None:
    """How a score chooses; groups of which fewer than two arms have it, or the probe, say nothing."""
    by_seed: dict[tuple[str, int], list[list[float]]] = {}
    sizes, with_real_only = [], True
    for group, records in groups.items():
        pairs = [(score(record), record.metrics.get(probe(group)), record.arm) for record in records]
        known = [(own, truth, arm) for own, truth, arm in pairs if own is not None and truth is not None]
        if len(known) < 2:
            continue
        own, truth = (np.array([pair[part] for pair in known], dtype=float) for part in (0, 1))
        sizes.append(len(known))
        with_real_only &= any(arm.startswith(REAL_ONLY) for *_, arm in known)  # or a tuned one
        by_seed.setdefault((group[0], group[2]), []).append(chosen(own, truth))
    if not by_seed:
        return None
    means = np.array([np.mean(values, axis=0) for _, values in sorted(by_seed.items())])  # (seeds, 5)
    estimates = [paired_difference(column.tolist(), [0.0] * len(means)) for column in means.T]
    kendall, spearman, over_chance, regret, chance = (estimate for estimate in estimates if estimate)
    return Choice(kendall, spearman, over_chance, regret, chance, len(sizes), min(sizes), with_real_only)


def chosen(own: np.ndarray, truth: np.ndarray) -> list[float]:
    """What choosing by a score comes to in one group.

    Args:
        own: (arms,) the score, higher is better; of equal best ones any is taken, and their mean counts.
        truth: (arms,) the probe.

    Returns:
        Kendall's tau-b, Spearman's rho (both 0 where one of the two is the same for all), the choice over the mean of
        all arms, the best over the choice, and the best over the mean of all.

    Source: Kendall, "Rank Correlation Methods", 1948; Spearman, 1904, of mean ranks.

    Example:
        >>> chosen(np.array([3.0, 2.0, 1.0]), np.array([50.0, 40.0, 45.0]))[2:]
        [5.0, 0.0, 5.0]
    """
    taken = float(truth[own == own.max()].mean())
    above = np.sign(own[:, None] - own), np.sign(truth[:, None] - truth)  # (arms, arms)
    ranks = [side.sum(axis=1) for side in above]  # mean ranks, centred and doubled
    best, mean = float(truth.max()), float(truth.mean())
    return [_cosine(*above), _cosine(*ranks), taken - mean, best - taken, best - mean]


def _cosine(first: np.ndarray, second: np.ndarray) -> float:
    lengths = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / lengths) if lengths > 0 else 0.0
