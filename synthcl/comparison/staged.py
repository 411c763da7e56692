"""Comparisons in stages: what a later stage trains is chosen by the records of an earlier one.

A plan is made anew from the records whenever something has finished, so nothing but the records is remembered: the same
command continues, and records made on several machines continue together once they lie in one folder.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from synthcl.comparison.begin import How
from synthcl.comparison.execute import execute
from synthcl.comparison.hours import hours
from synthcl.comparison.plan import Run
from synthcl.comparison.records import Place, is_finished
from synthcl.core.errors import UserError


@dataclass(frozen=True)
class Stage:
    """Runs that are chosen together.

    Args:
        title: what it is for.
        runs: all of them, finished or not; their number does not depend on what is chosen.
        unsure: arms whose settings an earlier stage has not chosen yet; their runs stand for as many.
        chosen: what has been chosen for it, for people; empty where nothing has.
    """

    title: str
    runs: list[Run]
    unsure: frozenset[str] = frozenset()
    chosen: str = ""

    def is_done(self, run: Run, place: Place) -> bool:
        """Whether one of its runs is known and finished.

        Raises:
            UserError: when its record is of another configuration.
        """
        return run.arm not in self.unsure and is_finished(run, place)


@dataclass(frozen=True)
class Slice:
    """One of several equal parts of every stage, for one of several machines.

    Args:
        part: from 1 on.
        parts: how many there are.
    """

    part: int = 1
    parts: int = 1

    @classmethod
    def read(cls, text: str) -> Slice:
        """A slice such as `2/3`.

        Raises:
            UserError: on anything else.
        """
        found = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text)
        part, parts = map(int, found.groups()) if found else (0, 0)
        if not 1 <= part <= parts:
            raise UserError(f"--slice {text!r} is no part of a whole; give one such as 1/3, 2/3 or 3/3")
        return cls(part, parts)

    def of(self, runs: Sequence[Run]) -> Sequence[Run]:
        """Neighbours, so that runs that share a GAN are on one machine where that is possible."""
        begin, end = (len(runs) * part // self.parts for part in (self.part - 1, self.part))
        return runs[begin:end]


Plan = Callable[[], list[Stage]]
"""all stages as the records of now let them be known"""


def left(stages: Sequence[Stage], place: Place, share: Slice) -> Iterator[tuple[Stage, Run]]:
    """Runs of a slice that are not finished, those with them whose settings are not known yet.

    Args:
        stages: of a plan.
        place: of the records.
        share: the slice.

    Raises:
        UserError: when a record is of another configuration.
    """
    for stage in stages:
        yield from ((stage, run) for run in share.of(stage.runs) if not stage.is_done(run, place))


def describe(stages: Sequence[Stage], place: Place, parallel: int, share: Slice = Slice()) -> str:
    """What would be trained, and for how long.

    Args:
        stages: of a plan.
        place: of the records.
        parallel: processes at a time.
        share: the slice that this machine would train.
    """
    lines = []
    for stage in stages:
        done = [stage.is_done(run, place) for run in stage.runs]
        lines.append(f"{stage.title}: {len(stage.runs)} runs, {sum(done)} finished")
        for run, finished in zip(stage.runs, done, strict=True):
            note = "  finished" if finished else "  not chosen yet" if run.arm in stage.unsure else ""
            lines.append(f"  {run.label}{note}")
        if stage.chosen:
            lines.append(f"chosen: {stage.chosen}")
    if any(stage.unsure for stage in stages):
        lines.append("what is not chosen yet is chosen on validation by the stages before")
    training = stages[0].runs[0].config.training
    lines.append(f"every run: {training.steps:,} steps of {2 * training.batch_images:,} views")
    open_runs = [run for _, run in left(stages, place, share)]
    needed = hours(open_runs, place)
    shown = "hours are known once a run of each kind is finished"
    if needed is not None:
        shown = f"{needed / parallel:.1f} hours at the speed of finished runs"
    here = "" if share.parts == 1 else f" in slice {share.part}/{share.parts}"
    lines.append(f"{len(open_runs)} runs are left{here}, {parallel} at a time: {shown}")
    return "\n".join(lines)


def carry_out(plan: Plan, place: Place, how: How, write: Callable[[Place], str], share: Slice = Slice()) -> bool:
    """Do what is left of all stages and print the report; the same call again continues.

    Args:
        plan: called again after every stage.
        place: of the records.
        how: where, and for how long.
        write: writes the report and returns it for a terminal.
        share: the slice of every stage that is done here.

    Returns:
        Whether every run of all slices is finished.

    Raises:
        UserError: as of `plan` and `execute`.
    """
    stop_at = time.monotonic() + 60 * how.minutes
    said: set[str] = set()
    with how.pool(place.config) as pool:
        while True:
            stages = plan()
            for stage in stages:
                if stage.chosen and stage.chosen not in said:
                    said.add(stage.chosen)
                    print(f"chosen: {stage.chosen}", flush=True)
            ready = [run for stage, run in left(stages, place, share) if run.arm not in stage.unsure]
            if not ready or not execute(ready, place, pool, max(0.0, (stop_at - time.monotonic()) / 60)):
                break
    total = sum(len(stage.runs) for stage in stages)
    finished = sum(stage.is_done(run, place) for stage in stages for run in stage.runs)
    if finished:
        print(write(place))
    if finished < total:
        print(f"{finished} of {total} runs are finished; {_what_next(stages, place, share)}")
    return finished == total


def _what_next(stages: Sequence[Stage], place: Place, share: Slice) -> str:
    if share.parts == 1 or any(run.arm not in stage.unsure for stage, run in left(stages, place, share)):
        return "the same command goes on"
    return (
        f"slice {share.part}/{share.parts} waits for the records of the others: copy them into "
        f"{str(place.records)!r}, and the same command goes on"
    )
