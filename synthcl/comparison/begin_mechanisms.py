"""The runs of the mechanisms as they are begun: strengths are chosen, the factorial is trained, and it is read."""

from __future__ import annotations

import time
from collections.abc import Iterable

from synthcl.comparison.begin import How, look_at_encoders
from synthcl.comparison.execute import execute
from synthcl.comparison.mechanisms import (
    FAMILIES,
    MECHANISMS,
    VIEW_STRENGTHS,
    arm_name,
    hours,
    stage_1,
    stage_2,
    strengths_of,
    tried_arms,
)
from synthcl.comparison.mechanisms_report import write
from synthcl.comparison.plan import Run
from synthcl.comparison.records import Place, is_finished, read_all
from synthcl.config.schema import Config


def planned(config: Config, chosen: Iterable[str], images: int, seeds: int) -> tuple[list[Run], list[Run], set[str]]:
    """The runs of both stages; what can be refused is refused here, before anything is trained.

    Args:
        config: that arms change.
        chosen: names of `MECHANISMS`.
        images: unlabelled ones to train on.
        seeds: of stage 2.

    Returns:
        (stage 1, stage 2, arms of stage 2 whose strength is not chosen yet; they have the middle one until it is).

    Raises:
        UserError: as of `stage_1` and `stage_2`, or when an encoder or a record is unusable.
    """
    names = list(chosen)
    place, first = Place(config), stage_1(config, names, images)
    look_at_encoders(config)
    left = {run.arm for run in first if not is_finished(run, place)}
    known = [name for name in names if not left & {*tried_arms(name)}]
    middle = {name: MECHANISMS[name].tried[1] for name in names}
    strengths = strengths_of(read_all(place.records, config), known, config) if known else {}
    opened = {arm_name(family, name, v) for family in FAMILIES for name in names for v in VIEW_STRENGTHS}
    fixed = {arm_name(family, name, v) for family in FAMILIES for name in known for v in VIEW_STRENGTHS}
    return first, stage_2(config, middle | strengths, images, seeds), opened - fixed


def describe(first: list[Run], second: list[Run], unsure: set[str], place: Place, parallel: int) -> str:
    """What would be trained, and for how long.

    Args:
        first, second, unsure: from `planned`.
        place: of the records.
        parallel: processes at a time.
    """
    lines, left = [], []
    for stage, runs in (("stage 1, how strong", first), ("stage 2, the factorial", second)):
        finished = {run.label for run in runs if run.arm not in unsure and is_finished(run, place)}
        left += [run for run in runs if run.label not in finished]
        lines.append(f"{stage}: {len(runs)} runs, {len(finished)} finished")
        lines += [f"  {run.label}{'  finished' if run.label in finished else ''}" for run in runs]
    if unsure:
        lines.append("strengths of stage 2 are what stage 1 chooses on validation")
    training = first[0].config.training
    lines.append(f"every run: {training.steps:,} steps of {2 * training.batch_images:,} views")
    needed = hours(left, place)
    shown = "hours are known once a run of each kind is finished"
    if needed is not None:
        shown = f"{needed / parallel:.1f} hours at the speed of finished runs"
    lines.append(f"{len(left)} runs are left, {parallel} at a time: {shown}")
    return "\n".join(lines)


def begin(config: Config, chosen: Iterable[str], images: int, seeds: int, how: How) -> bool:
    """Do what is left of both stages and print the report; the same call again continues.

    Args:
        config, chosen, images, seeds: as of `planned`.
        how: where, and for how long.

    Returns:
        Whether every run is finished.

    Raises:
        UserError: as of `planned` and `execute`.
    """
    names, place, stop_at = list(chosen), Place(config), time.monotonic() + 60 * how.minutes
    first, second, _ = planned(config, names, images, seeds)
    with how.pool(config) as pool:
        whole = execute(first, place, pool, how.minutes)
        if whole:
            strengths = strengths_of(read_all(place.records, config), names, config)
            print(", ".join(f"{name}: {MECHANISMS[name].strength}={value:g}" for name, value in strengths.items()))
            second = stage_2(config, strengths, images, seeds)
            whole = execute(second, place, pool, max(0.0, (stop_at - time.monotonic()) / 60))
    runs = [*first, *second]
    finished = sum(place.record(run).is_file() for run in runs)
    if finished:
        print(write(place))
    if not whole:
        print(f"{finished} of {len(runs)} runs are finished; the same command goes on")
    return whole
