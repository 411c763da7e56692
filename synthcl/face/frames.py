"""Tables as data frames: one row a configuration, numbers in columns that have the headings of the reports."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan
from typing import TYPE_CHECKING, Any

import pandas as pd

from synthcl.comparison.intervals import Estimate, Statistic
from synthcl.comparison.table import Evidence

if TYPE_CHECKING:
    from synthcl.search.leaderboard import Leaderboard  # its room imports Ray, and a comparison can do without


def of_board(board: Leaderboard) -> pd.DataFrame:
    """The confirmed configurations of a search, best on validation first, then networks that are not trained here.

    Returns:
        By name: `validation` and the test scores in percent, the mean over seeds, each with its ` std`; where it can be
        given the ` difference` to the best real-only found in points, paired by seed, with the ends ` low` and ` high`
        of its 95 % interval; `n` seeds, `seconds` and `FLOP` of a run, and whether it is a `baseline`.
    """
    rows = []
    for row in (*board.rows, *board.references):
        values: dict[str, Any] = {"name": row.name}
        for heading, metric in board.columns.items():
            values |= _measured(heading, row.scores.get(metric), row.difference.get(metric))
        rows.append(
            values
            | {"n": len(row.seeds), "seconds": row.seconds, "FLOP": row.flops.get("train"), "baseline": row.is_baseline}
        )
    return pd.DataFrame(rows, columns=None if rows else ["name"]).set_index("name")


def of_evidence(evidence: Evidence) -> pd.DataFrame:
    """The runs of a comparison, scored on test, then networks that are not trained here.

    Returns:
        By arm and number of images: as of `of_board`, differences to real-only with the same images.
    """
    rows = []
    for row in (*evidence.rows["test"], *evidence.references["test"]):
        values: dict[str, Any] = {"arm": row.arm, "images": row.images}
        for heading in evidence.columns:
            values |= _measured(heading, row.scores.get(heading), row.difference.get(heading))
        if row.cell in evidence.seconds:  # trained here
            values |= {"seconds": evidence.seconds[row.cell].mean, "FLOP": evidence.flops[row.cell].get("train")}
        rows.append(values | {"n": len(row.seeds)})
    return pd.DataFrame(rows).set_index(["arm", "images"])


def of_scores(name: str, scores: Mapping[str, Any]) -> pd.DataFrame:
    """One training: a row of what its last rung measured, by the names of the metrics."""
    return pd.DataFrame([scores], index=pd.Index([name], name="name"))


def _measured(heading: str, score: Statistic | None, gain: Estimate | None) -> dict[str, float]:
    values = {heading: score.mean, f"{heading} std": score.std} if score else {}
    if gain:
        values |= {
            f"{heading} difference": gain.value,
            f"{heading} difference low": gain.low,
            f"{heading} difference high": gain.high,
        }
    return {name: nan if value is None else value for name, value in values.items()}
