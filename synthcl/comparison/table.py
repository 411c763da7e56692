"""What the records say, as statistics over seeds: nothing here reads anything but records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

from synthcl.comparison import intervals
from synthcl.comparison.arms import ARMS, EQUAL_TIME, OWN, REAL_ONLY
from synthcl.comparison.intervals import Estimate, Factor, Statistic, paired_difference
from synthcl.comparison.records import Record
from synthcl.config.sections import EvaluationConfig
from synthcl.evaluation import names

SplitPrefix = Literal["val", "test"]
SPLITS: tuple[SplitPrefix, ...] = ("val", "test")
HEADROOM_POINTS = 3.0
"""a preset is fit for evidence where the oracle gains at least this much"""

Cell = tuple[str, int]
"""arm and number of images"""


@dataclass(frozen=True)
class Row:
    """One arm with one number of images, scored on one split; every dict is by column."""

    arm: str
    images: int
    seeds: tuple[int, ...]
    scores: dict[str, Statistic]
    difference: dict[str, Estimate]
    """to the reference with the same images, in points"""
    recovered: dict[str, Estimate]
    """share of the oracle's gain over real-only with the same images"""
    efficiency: dict[str, Factor]
    """how many times fewer images the arm needs for the score that real-only reaches with these"""

    @property
    def cell(self) -> Cell:
        return self.arm, self.images


@dataclass(frozen=True)
class Evidence:
    """Rows by split, and what else the records hold."""

    name: str
    reference: str
    """the arm of real images alone that the others are compared with"""
    own: str
    """the arm of the method that is compared with every other one"""
    columns: dict[str, str]
    """heading -> metric without its split"""
    oracle: Cell | None
    """the reference with the most images, where it was trained with several numbers"""
    rows: dict[SplitPrefix, list[Row]]
    headroom: dict[SplitPrefix, dict[int, dict[str, Estimate]]]
    """images -> what the oracle gains over real-only with so many, by column"""
    own_gains: dict[SplitPrefix, dict[tuple[int, Cell], dict[str, Estimate]]]
    """(images, other cell) -> what the configuration's own curriculum with so many images gains over it, by column"""
    statistics: dict[Cell, dict[str, Statistic]]
    """the last logged means of training"""
    seconds: dict[Cell, Statistic]
    """wall time of training, without scoring"""
    flops: dict[Cell, dict[str, float | None]]
    """floating-point operations of a run to `train`, and of its GAN's `warm-up`; none where no record has them"""
    budgets: dict[str, tuple[str, ...]]
    """steps and views -> the arms that had them"""
    references: dict[SplitPrefix, list[Row]]
    """networks that are not trained here"""
    devices: tuple[str, ...]
    diverged: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Everything above as plain values."""
        return {
            "name": self.name,
            "oracle_images": self.oracle[1] if self.oracle else None,
            "reference": self.reference,
            "own": self.own,
            "budgets": list(self.budgets),
            "devices": self.devices,
            "diverged": self.diverged,
            "interval": {
                "level": intervals.COVERAGE,
                "differences": "Student's t over seeds, paired",
                "ratios": "expanded percentile bootstrap over seeds, paired",
                "resamples": intervals.RESAMPLES,
                "seed": intervals.SEED,
            },
            "metrics": self.columns,
            "rows": {split: [asdict(row) for row in rows] for split, rows in self.rows.items()},
            **({"not trained here": self._frozen()} if any(self.references.values()) else {}),
            "headroom": {
                split: [{"images": images, **_plain(gains)} for images, gains in by_images.items()]
                for split, by_images in self.headroom.items()
            },
            "own_gains": {
                split: [
                    {"images": images, "over": arm, "over_images": others, **_plain(gains)}
                    for (images, (arm, others)), gains in by_pair.items()
                ]
                for split, by_pair in self.own_gains.items()
            },
            "statistics": [
                {"arm": arm, "images": images, **_plain(means)} for (arm, images), means in self.statistics.items()
            ],
            "flops": [
                {"arm": arm, "images": images, **counted} for (arm, images), counted in self.flops.items() if counted
            ],
        }

    def _frozen(self) -> dict[str, list[dict[str, Any]]]:
        """Of networks that are not trained here."""
        return {
            split: [{"name": row.arm, "seeds": row.seeds, "scores": _plain(row.scores)} for row in rows]
            for split, rows in self.references.items()
        }


def summarise(
    records: list[Record], reference: str = REAL_ONLY, own: str = OWN, pretrained: Sequence[Record] = ()
) -> Evidence:
    """All statistics of a comparison, or of what a search has confirmed.

    Args:
        records: from `records.read_all`, at least one.
        reference: the arm of real images alone that the others are compared with.
        own: the arm of the method that is compared with every other one.
        pretrained: records of networks that are not trained here.
    """
    config = records[0].config
    finished = [record for record in records if not record.diverged]
    measured = {name for record in finished for name in record.metrics}
    every = columns_of(EvaluationConfig.model_validate(config["evaluation"]), config["data"]["source"])
    columns = {c: metric for c, metric in every.items() if measured & {f"{split}/{metric}" for split in SPLITS}}
    logged, spent = Scores(finished, lambda run: run.statistics), Scores(finished, lambda run: run.seconds)
    cells = sorted(logged.by_seed, key=lambda cell: (cell[1], _order(cell[0])))
    trained = [cell for cell in cells if cell[0] == reference]
    oracle = trained[-1] if len(trained) > 1 else None
    tables = {split: Scores(finished, partial(by_column, columns, split)) for split in SPLITS}
    budgets: dict[str, dict[str, None]] = {}
    computed: dict[Cell, dict[str, float | None]] = {}
    for record in finished:
        cell = record.arm, record.images
        computed[cell] = computed.get(cell) or record.flops
        if record.arm != EQUAL_TIME:
            budget = f"{record.steps:,} optimiser steps of {record.views_per_step:,} views"
            budgets.setdefault(budget, {})[record.arm] = None
    return Evidence(
        name=config["name"],
        reference=reference,
        own=own,
        columns=columns,
        oracle=oracle,
        rows={split: [_row(scores, cell, reference, oracle) for cell in cells] for split, scores in tables.items()},
        headroom={split: _headroom(scores, reference, oracle) for split, scores in tables.items()},
        own_gains={split: _own_gains(scores, own, reference, oracle) for split, scores in tables.items()},
        statistics={cell: logged.statistics(cell) for cell in cells},
        seconds={cell: spent.statistics(cell)["train"] for cell in cells},
        flops={cell: computed[cell] for cell in cells},
        budgets={budget: tuple(arms) for budget, arms in budgets.items()},
        references={
            split: [_row(scores, cell, reference, None) for cell in sorted(scores.by_seed)]
            for split in SPLITS
            for scores in [Scores(pretrained, partial(by_column, columns, split))]
        },
        devices=tuple(dict.fromkeys(record.device for record in records if record.device)),
        diverged=tuple(
            f"{record.arm} with {record.images:,} images, seed {record.seed}: {record.diverged}"
            for record in records
            if record.diverged
        ),
    )


class Scores:
    """What finished runs measured, by configuration and seed.

    Args:
        records: of the runs.
        values: what to take of a record, by name.
    """

    def __init__(self, records: Iterable[Record], values: Callable[[Record], Mapping[str, float]]) -> None:
        self.by_seed: dict[Cell, dict[str, dict[int, float]]] = {}
        for record in records:
            own = self.by_seed.setdefault((record.arm, record.images), {})
            for name, value in values(record).items():
                own.setdefault(name, {})[record.seed] = value

    def statistics(self, cell: Cell) -> dict[str, Statistic]:
        """Mean and spread over seeds, by name."""
        found = {name: Statistic.of(list(seeds.values())) for name, seeds in self.by_seed[cell].items()}
        return {name: statistic for name, statistic in found.items() if statistic}

    def gains(self, cell: Cell, over: Cell) -> dict[str, Estimate]:
        """Mean differences of the seeds that both have, by name."""
        found = {name: paired_difference(*self.paired(name, cell, over)) for name in self.by_seed[cell]}
        return {name: gain for name, gain in found.items() if gain}

    def paired(self, name: str, *cells: Cell) -> list[list[float]]:
        """Values of the seeds that all cells have, in the same order."""
        values = [self.by_seed[cell].get(name, {}) for cell in cells]
        shared = sorted(set.intersection(*map(set, values)))
        return [[value[seed] for seed in shared] for value in values]


def by_column(columns: dict[str, str], split: SplitPrefix, record: Record) -> dict[str, float]:
    """The scores of one split by column."""
    named = {column: f"{split}/{metric}" for column, metric in columns.items()}
    return {column: record.metrics[name] for column, name in named.items() if name in record.metrics}


def _row(scores: Scores, cell: Cell, reference: str, oracle: Cell | None) -> Row:
    arm, images = cell
    own, real = scores.by_seed[cell], (reference, images)
    difference, recovered, efficiency = {}, {}, {}
    if arm != reference and real in scores.by_seed:
        difference = scores.gains(cell, real)
        curve = sorted(other for other in scores.by_seed if other[0] == arm)
        for column in own if oracle else ():
            share = intervals.recovered_fraction(*scores.paired(column, cell, real, oracle or real))
            if share:
                recovered[column] = share
            *points, target = scores.paired(column, *curve, real)
            counts = [count for _, count in curve]
            factor = intervals.data_efficiency(dict(zip(counts, points, strict=True)), images, target)
            if factor:
                efficiency[column] = factor
    seeds = tuple(sorted({seed for values in own.values() for seed in values}))
    return Row(arm, images, seeds, scores.statistics(cell), difference, recovered, efficiency)


def _headroom(scores: Scores, reference: str, oracle: Cell | None) -> dict[int, dict[str, Estimate]]:
    """What the oracle gains over fewer images of the same kind."""
    smaller = sorted(n for arm, n in scores.by_seed if oracle and arm == reference and n != oracle[1])
    return {images: scores.gains(oracle, (reference, images)) for images in smaller if oracle}


def _own_gains(
    scores: Scores, own: str, reference: str, oracle: Cell | None
) -> dict[tuple[int, Cell], dict[str, Estimate]]:
    """Over every other arm with the same images, and over the oracle; over the reference the rows have it."""
    return {
        (images, other): scores.gains((own, images), other)
        for images in sorted(n for arm, n in scores.by_seed if arm == own)
        for other in scores.by_seed
        if other[0] != own and other != (reference, images) and (other[1] == images or other == oracle)
    }


def columns_of(evaluation: EvaluationConfig, source: str) -> dict[str, str]:
    """The scores that tables show: heading to metric, without its split.

    Args:
        evaluation: what is scored.
        source: the data set that is pretrained on.
    """
    columns = {f"linear{names.labels(entry)}": names.linear(source, entry) for entry in evaluation.by_labels}
    columns["kNN"] = f"knn/{source}"
    if evaluation.transfer:
        columns["transfer"] = "transfer/mean"
    return columns


def _order(arm: str) -> tuple[int, str]:
    """Arms as `ARMS` lists them, others after."""
    return (list(ARMS).index(arm) if arm in ARMS else len(ARMS)), arm


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: asdict(value) for name, value in values.items()}
