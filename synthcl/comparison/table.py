"""What the records say, as statistics over seeds: nothing here reads anything but records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from synthcl.comparison import bootstrap
from synthcl.comparison.arms import ARMS, EQUAL_TIME, OWN, REAL_ONLY
from synthcl.comparison.bootstrap import Estimate, Factor, Statistic
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
    """to real-only with the same images, in points"""
    recovered: dict[str, Estimate]
    """share of the oracle's gain over real-only with the same images"""
    efficiency: dict[str, Factor]
    """how many times fewer images the arm needs for the score that real-only reaches with these"""


@dataclass(frozen=True)
class Evidence:
    """Rows by split, and what else the records hold."""

    name: str
    columns: dict[str, str]
    """heading -> metric without its split"""
    oracle: int | None
    """images of the oracle: the most that real-only was trained with"""
    rows: dict[SplitPrefix, list[Row]]
    headroom: dict[SplitPrefix, dict[int, dict[str, Estimate]]]
    """images -> what the oracle gains over real-only with so many, by column"""
    own_gains: dict[SplitPrefix, dict[tuple[int, Cell], dict[str, Estimate]]]
    """(images, other cell) -> what the configuration's own curriculum with so many images gains over it, by column"""
    statistics: dict[Cell, dict[str, Statistic]]
    """the last logged means of training"""
    seconds: dict[Cell, Statistic]
    """wall time of training, without scoring"""
    flops: dict[Cell, tuple[float | None, float | None]]
    """floating-point operations of a run's training and of its GAN's warm-up; None where no record has them"""
    budgets: tuple[str, ...]
    devices: tuple[str, ...]
    diverged: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Everything above as plain values."""
        flops = [
            {"arm": arm, "images": images, "train": train, "warm-up": warm_up}
            for (arm, images), (train, warm_up) in self.flops.items()
            if train is not None
        ]
        return {
            "name": self.name,
            "oracle_images": self.oracle,
            "budgets": self.budgets,
            "devices": self.devices,
            "diverged": self.diverged,
            "interval": {"method": "expanded percentile bootstrap over seeds, paired", "level": bootstrap.COVERAGE}
            | {"resamples": bootstrap.RESAMPLES, "seed": bootstrap.SEED},
            "metrics": self.columns,
            "rows": {split: [asdict(row) for row in rows] for split, rows in self.rows.items()},
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
        } | ({"flops": flops} if flops else {})


def summarise(records: list[Record]) -> Evidence:
    """All statistics of a comparison.

    Args:
        records: from `records.read_all`, at least one.
    """
    columns = _columns(records)
    finished = [record for record in records if not record["diverged"]]
    scores: dict[Cell, dict[int, dict[str, float]]] = {}
    logged: dict[Cell, list[dict[str, float]]] = {}
    spent: dict[Cell, list[float]] = {}
    computed: dict[Cell, dict[str, float | None]] = {}
    for record in finished:
        cell = record["arm"], record["images"]
        scores.setdefault(cell, {})[record["seed"]] = record["metrics"]
        logged.setdefault(cell, []).append(record["statistics"])
        spent.setdefault(cell, []).append(record["seconds"]["train"])
        computed[cell] = computed.get(cell) or record.get("flops", {})  # earlier versions did not count
    cells = sorted(scores, key=lambda cell: (cell[1], _order(cell[0])))
    oracle = max((images for arm, images in cells if arm == REAL_ONLY), default=None)
    tables = {split: _Scores(scores, columns, split, oracle) for split in SPLITS}
    return Evidence(
        name=records[0]["config"]["name"],
        columns=columns,
        oracle=oracle,
        rows={split: [table.row(cell) for cell in cells] for split, table in tables.items()},
        headroom={split: table.headroom() for split, table in tables.items()},
        own_gains={split: table.own_gains() for split, table in tables.items()},
        statistics={cell: _means(logged[cell]) for cell in cells},
        seconds={cell: seconds for cell in cells if (seconds := Statistic.of(spent[cell]))},
        flops={cell: (computed[cell].get("train"), computed[cell].get("warm-up")) for cell in cells},
        budgets=_distinct(
            f"{record['steps']:,} optimiser steps of {record['views_per_step']:,} views"
            for record in finished
            if record["arm"] != EQUAL_TIME
        ),
        devices=_distinct(record["device"] for record in records),
        diverged=tuple(
            f"{record['arm']} with {record['images']:,} images, seed {record['seed']}: {record['diverged']}"
            for record in records
            if record["diverged"]
        ),
    )


class _Scores:
    """The scores of one split."""

    def __init__(
        self,
        scores: dict[Cell, dict[int, dict[str, float]]],
        columns: dict[str, str],
        split: SplitPrefix,
        oracle: int | None,
    ) -> None:
        self.oracle = None if oracle is None else (REAL_ONLY, oracle)
        self.columns = list(columns)
        self.by_seed: dict[Cell, dict[str, dict[int, float]]] = {
            cell: {
                column: {s: values[f"{split}/{metric}"] for s, values in seeds.items() if f"{split}/{metric}" in values}
                for column, metric in columns.items()
            }
            for cell, seeds in scores.items()
        }

    def row(self, cell: Cell) -> Row:
        arm, images = cell
        own, real = self.by_seed[cell], (REAL_ONLY, images)
        scores, recovered, efficiency = {}, {}, {}
        for column in self.columns:
            if statistic := Statistic.of(list(own[column].values())):
                scores[column] = statistic
            if arm == REAL_ONLY or real not in self.by_seed:
                continue
            if self.oracle and self.oracle != real:
                share = bootstrap.recovered_fraction(*self._paired(column, cell, real, self.oracle))
                if share:
                    recovered[column] = share
            curve = sorted(other for other in self.by_seed if other[0] == arm)
            *points, target = self._paired(column, *curve, real)
            factor = bootstrap.data_efficiency(dict(zip([n for _, n in curve], points, strict=True)), images, target)
            if factor:
                efficiency[column] = factor
        difference = self._gains(cell, real) if arm != REAL_ONLY and real in self.by_seed else {}
        seeds = tuple(sorted({seed for values in own.values() for seed in values}))
        return Row(arm, images, seeds, scores, difference, recovered, efficiency)

    def headroom(self) -> dict[int, dict[str, Estimate]]:
        if self.oracle is None:
            return {}
        smaller = sorted(n for arm, n in self.by_seed if arm == REAL_ONLY and n != self.oracle[1])
        return {images: self._gains(self.oracle, (REAL_ONLY, images)) for images in smaller}

    def own_gains(self) -> dict[tuple[int, Cell], dict[str, Estimate]]:
        """Over every other arm with the same images, and over the oracle; over real-only the rows have it."""
        return {
            (images, other): self._gains((OWN, images), other)
            for images in sorted(n for arm, n in self.by_seed if arm == OWN)
            for other in self.by_seed
            if other[0] != OWN and other != (REAL_ONLY, images) and (other[1] == images or other == self.oracle)
        }

    def _gains(self, cell: Cell, over: Cell) -> dict[str, Estimate]:
        """Mean differences by column."""
        gains = {column: bootstrap.mean_difference(*self._paired(column, cell, over)) for column in self.columns}
        return {column: gain for column, gain in gains.items() if gain}

    def _paired(self, column: str, *cells: Cell) -> list[list[float]]:
        """Scores of the seeds that all cells have, in the same order."""
        values = [self.by_seed[cell][column] for cell in cells]
        shared = sorted(set.intersection(*map(set, values)))
        return [[value[seed] for seed in shared] for value in values]


def _columns(records: list[Record]) -> dict[str, str]:
    config = records[0]["config"]
    source = config["data"]["source"]
    entries = EvaluationConfig.model_validate(config["evaluation"]).by_labels
    columns = {f"linear{names.labels(entry)}": names.linear(source, entry) for entry in entries}
    columns["kNN"] = f"knn/{source}"
    if config["evaluation"]["transfer"]:
        columns["transfer"] = "transfer/mean"
    return columns


def _order(arm: str) -> tuple[int, str]:
    """Arms as `ARMS` lists them, others after."""
    return (list(ARMS).index(arm) if arm in ARMS else len(ARMS)), arm


def _means(logged: list[dict[str, float]]) -> dict[str, Statistic]:
    names = dict.fromkeys(name for values in logged for name in values)
    statistics = {name: Statistic.of([values[name] for values in logged if name in values]) for name in names}
    return {name: statistic for name, statistic in statistics.items() if statistic}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: asdict(value) for name, value in values.items()}


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
