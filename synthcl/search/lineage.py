"""What a copy changes: its knobs from here on, written as the schedules of its whole lineage.

A *knob* is a schedule that a space searches by its beginning alone and that is constant without a copy. Every other
searched field, such as the encoder's learning rate, stays what it was when a member began, and is copied with the
weights that it has trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch

from synthcl.comparison.intervals import paired_difference
from synthcl.comparison.records import Record
from synthcl.config.compatibility import is_within
from synthcl.config.schema import Config
from synthcl.method.curriculum.curves import Table
from synthcl.method.curriculum.ramps import Constant
from synthcl.search.space import Dimension, Space
from synthcl.search.study import RecordedStudy

OWN_SCORE = "own score, not a result"
"""of a member: the largest of several, of weights that were selected with it; no run of its lineage keeps it"""
EXPLAINED = (
    "A member has these values from `progress` on, and before it those of the member that it has copied. What a "
    "lineage is worth stands in the first table, by runs from the start on fresh seeds; a member's own score promises "
    "more."
)

ANEW = 0.25
"""probability with which a knob is drawn from its whole range"""
FACTORS = (0.8, 1.2)
"""what the value of any other is multiplied by, one as likely as the other"""


def knobs_of(space: Space, config: Config) -> dict[str, Dimension]:
    """The dimensions of a space that a copy changes, by searched field.

    Args:
        space: what is searched.
        config: the configuration the search starts from; its constant schedules may be knobs.
    """
    knobs = {}
    for path, dimension in space.dimensions.items():
        place = path.removesuffix(".start")
        others = {other: space.dimensions[other] for other in space.dimensions if is_within(other, [place])}
        del others[path]
        kind = others.pop(f"{place}.kind", None)
        begins_constant = (
            path == place
            or (kind is not None and kind.choices == ("constant",))
            or (kind is None and isinstance(config.schedules.get(place), Constant))
        )
        is_number = dimension.low is not None
        if place == "curriculum.synthetic_fraction" and not (dimension.low or 0) > 0:
            is_number = False  # real images alone have no generator that a copy could go on with
        if place in config.schedules and is_number and begins_constant and not others:
            knobs[path] = dimension
    return knobs


def explored(
    values: Mapping[str, Any], knobs: Mapping[str, Dimension], generator: torch.Generator
) -> dict[str, int | float]:
    """The knobs of a copy: some anew from their range, the others a fifth lower or higher, within the range.

    Args:
        values: of the run that is copied, by searched field.
        knobs: from `knobs_of`; one without a value stays without.
        generator: of all draws, three a knob.
    """
    changed = {}
    for path, dimension in knobs.items():
        which, place, up = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
        if path in values:
            factor = FACTORS[up >= 0.5]
            changed[path] = dimension.at(place) if which < ANEW else dimension.nearest(factor * values[path])
    return changed


def continued(
    overrides: Mapping[str, Any], changed: Mapping[str, int | float], progress: float, base: Config
) -> dict[str, Any]:
    """The overrides of a run that is another one up to a progress, and has other knobs from there on.

    Args:
        overrides: of the run until then.
        changed: value of each knob from there on, by searched field.
        progress: at which it begins, in (0, 1).
        base: the configuration that overrides change.
    """
    schedules, result = base.with_overrides(dict(overrides)).schedules, dict(overrides)
    for path, value in changed.items():
        place = path.removesuffix(".start")
        before = schedules[place]
        points = list(before.points) if isinstance(before, Table) else [(0.0, before.value_at(0.0))]
        if points[-1][1] == value:
            continue
        result = {other: kept for other, kept in result.items() if not is_within(other, [place])}
        points = [*points, (progress, float(value))]
        result[place] = {"kind": "table", "points": [list(point) for point in points], "interpolation": "step"}
    return result


def lineages(study: RecordedStudy, whole: int) -> pd.DataFrame:
    """One row a member: whom it copied, in whose place, from which progress on it had these values.

    Args:
        study: of the run.
        whole: images of a whole run.

    Returns:
        member; copied, replaced: labels, empty of those that began; progress; `OWN_SCORE`, at its last rung; and every
        searched field.
    """
    rows = []
    for trial in study.trials:
        attributes = trial.user_attrs
        if "arm" not in attributes:
            scores = trial.intermediate_values
            rows.append(
                {
                    "member": attributes["label"],
                    "copied": attributes.get("copied", ""),
                    "replaced": attributes.get("replaced", ""),
                    "progress": attributes.get("inherited", 0) / whole,
                    OWN_SCORE: scores[max(scores)] if scores else None,
                    **trial.params,
                }
            )
    return pd.DataFrame(rows)


def cells(lineages: pd.DataFrame) -> list[list[str]]:
    """The table as text, heading first."""

    told = [name for name in lineages if lineages[name].nunique(dropna=False) > 1]  # not what all have in common

    def shown(value: Any) -> str:
        return "-" if value == "" or pd.isna(value) else f"{value:.4g}" if isinstance(value, float) else str(value)

    return [told, *([shown(value) for value in row] for row in lineages[told].itertuples(index=False))]


def gained(confirmed: list[Record], trials: pd.DataFrame, metric: str) -> tuple[str, ...]:
    """What copying has gained on fresh seeds: the best copy against the best member that has never copied.

    Args:
        confirmed: from `results.confirm_records`.
        trials: from `results.trials_frame`.
        metric: by which, such as `test/linear/digits`.
    """
    own = "A member's own score in the search is not a result."
    searched = trials[~trials.baseline].sort_values("score", ascending=False, kind="stable")
    known: dict[str, dict[int, dict[str, float]]] = {}
    for record in confirmed:
        known.setdefault(record.arm, {})[record.seed] = record.metrics
    kinds = (searched.parent.notna(), searched.parent.isna())
    pair = [next((label for label in searched[kind].label if label in known), None) for kind in kinds]
    if None in pair:
        return (f"{own} Copies and members that never copied are not both among the confirmed runs.",)
    copy, control = (known[str(name)] for name in pair)
    seeds = sorted(seed for seed in copy.keys() & control.keys() if metric in copy[seed] and metric in control[seed])
    found = paired_difference([copy[seed][metric] for seed in seeds], [control[seed][metric] for seed in seeds])
    if found is None:
        return (f"{own} {pair[0]} and {pair[1]} have no seed in common.",)
    return (
        f"{own} From the start on fresh seeds {pair[0]}, the best that copied, minus {pair[1]}, the best that never "
        f"did: {found} points on test (linear, {found.n} seed{'s' * (found.n > 1)}).",
    )
