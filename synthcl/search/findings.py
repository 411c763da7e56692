"""What a search has found so far, read from its folder: what every report of it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

import pandas as pd

from synthcl.comparison import references
from synthcl.comparison.arms import BASELINES, EQUAL_TIME
from synthcl.comparison.records import Record
from synthcl.config.schema import Config
from synthcl.search import leaderboard, lineage, refitted, results
from synthcl.search.leaderboard import Leaderboard
from synthcl.search.settings import changes
from synthcl.search.sides import rung_images
from synthcl.search.study import RecordedStudy


@dataclass(frozen=True)
class Findings:
    """Trials, confirm runs and their comparison, and what of them is shown.

    Args:
        config: of the search.
        folder: of its run.
        study: of its trials.
        trials: from `results.trials_frame`.
        confirmed: from `results.confirm_records`.
        board: of the confirm runs.
        lineages: of a population, else none.
        references: records of networks that are not trained here.
    """

    config: Config
    folder: Path
    study: RecordedStudy
    trials: pd.DataFrame
    confirmed: list[Record]
    board: Leaderboard
    lineages: pd.DataFrame | None = None
    references: Sequence[Record] = ()

    @classmethod
    def read(cls, config: Config, folder: Path, study: RecordedStudy) -> Findings:
        """What the folder holds now.

        Raises:
            UserError: when a record is unreadable.
        """
        trials = results.trials_frame(study, config)
        confirmed, seeds = results.confirm_records(folder, config), results.confirm_seeds(config)
        chosen, roles = results.chosen_names(trials, config), results.front_roles(trials, config)
        pretrained = references.read(folder / references.FOLDER, config)
        board, lineages = leaderboard.compare(confirmed, config, chosen, seeds, roles, pretrained), None
        if config.search.algorithm == "population":
            lineages = lineage.lineages(study, rung_images(config)[-1])
            board = replace(board, notes=lineage.gained(confirmed, trials, board.headline))
        return cls(config, folder, study, trials, confirmed, board, lineages, pretrained)

    @cached_property
    def refitted(self) -> str:
        """What is said of the encoder that was trained on every image; empty where there is none."""
        return refitted.described(self.folder, self.board.winner.name if self.board.winner else None)

    @cached_property
    def winning_trial(self) -> str | None:
        """Which of the trials the winner is."""
        return leaderboard.winning_trial(self.board, self.trials, self.config)

    @cached_property
    def schedules(self) -> dict[str, Config]:
        """Whose curricula are shown: the winner's, and where that is a baseline or none yet, the best trial's."""
        winner = self.board.winner
        shown = {winner.name: self._confirmed_as[winner.name]} if winner else {}
        best = next(iter(results.best_names(self.trials, self.config)), None)
        if best and all(name in BASELINES for name in shown):
            shown[best] = self._searched[best]  # a baseline's own curriculum shows little
        return shown

    @cached_property
    def beside(self) -> dict[str, Config]:
        """The configuration's own curriculum, where it is none of those."""
        return {} if self.config in self.schedules.values() else {"the configuration's own": self.config}

    @cached_property
    def sampled(self) -> tuple[str, str] | None:
        """Whose generator is shown: a configuration, and one of its runs; none where there is no generator."""
        candidates = self.schedules | self._confirmed_as | self._searched
        name = next((name for name, own in candidates.items() if not own.is_real_only), None)
        if name is None:
            return None
        runs = (results.run_label(record.arm, record.seed) for record in self.confirmed if record.arm == name)
        return name, next(runs, name)

    @property
    def winners_settings(self) -> tuple[str, dict[str, Any]]:
        """What the winner has on top of the search's configuration, in a sentence and by field; none without one."""
        config, winner = self.config, self.board.winner
        if winner is None:
            return "", {}
        own = config.with_overrides(winner.overrides)
        changed = changes(own, config)
        said = "Set on top of `config.json`:" if changed else "The configuration of `config.json` as it is."
        if own.is_real_only and not config.is_real_only:
            said = "Real images alone, without a generator" + (", and on top of `config.json`:" if changed else ".")
        return said, changed

    @property
    def spread(self) -> float | None:
        """How far a configuration's validation score is from one seed to the next: the mean over rows."""
        spreads = [row.scores["score"].std for row in self.board.rows if "score" in row.scores]
        measured = [spread for spread in spreads if spread is not None]
        return mean(measured) if measured else None

    @property
    def trade_offs(self) -> dict[str, tuple[float, float]]:
        """Mean linear and transfer score on validation, by row of equal steps; without those that lack one."""
        linear, transfer = self.board.headline.replace("test/", "val/", 1), "val/transfer/mean"
        rows = [row for row in self.board.rows if {linear, transfer} <= row.scores.keys() and row.name != EQUAL_TIME]
        return {row.name: (row.score(linear), row.score(transfer)) for row in rows}

    @cached_property
    def _confirmed_as(self) -> dict[str, Config]:
        return {row.name: self.config.with_overrides(row.overrides) for row in self.board.rows}

    @cached_property
    def _searched(self) -> dict[str, Config]:
        """The trials: what is handed over first, then the complete ones from the best on."""
        complete = self.trials[(self.trials.state == "complete") & ~self.trials.baseline]
        ranked = complete.sort_values("score", ascending=False).label
        overrides = dict(zip(self.trials.label, self.trials.overrides, strict=True))
        names = [*results.best_names(self.trials, self.config), *ranked]
        return {name: self.config.with_overrides(overrides[name]) for name in names}


def trial_cells(trials: pd.DataFrame, score: str = "score") -> list[list[str]]:
    """All trials as text, heading first; `score` is what the score's column is called."""
    table = [["trial", "state", "images", score, "settings"]]
    for row in trials.itertuples():
        state = f"{row.state}: {row.reason}" if row.reason else row.state
        own = "-" if pd.isna(row.score) else f"{row.score:.2f}"
        settings = ", ".join(f"{_short(path)}={value_text(value)}" for path, value in row.overrides.items())
        table.append([row.label, state, f"{row.images:,}", own, settings or "baseline"])
    return table


def value_text(value: Any) -> str:
    """A field's value as people write it."""
    if isinstance(value, dict):  # a whole schedule, of a baseline
        return ", ".join(f"{name} {value_text(part)}" for name, part in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _short(path: str) -> str:
    """The last two parts of a dotted field, one where the first is only a section."""
    parts = path.split(".")
    return ".".join(parts[-2:]) if len(parts) > 2 else parts[-1]
