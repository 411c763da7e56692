"""A comparison as it is begun, from a command line and from Python alike."""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from synthcl.comparison import references
from synthcl.comparison.arms import OWN, REAL_ONLY, default_arms
from synthcl.comparison.equal_time import equal_time_runs
from synthcl.comparison.execute import Pool, execute, in_this_process, on_ray, processes
from synthcl.comparison.plan import Run, describe_folders, plan, read_arms, read_counts
from synthcl.comparison.records import Place, is_finished
from synthcl.comparison.report import write
from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.runs.encoder_check import describe_encoders, require_encoder, require_references

SEEDS = 5


@dataclass(frozen=True)
class Asked:
    """What is compared.

    Args:
        arms: a list such as `real-only,joint`, or `name=FILE` with overrides; none means each source alone, and all.
        images: numbers of images such as `500,1000,all`; none means the configuration's own.
        oracle: numbers with which real-only is trained as well.
        seeds: how many, from `training.seed` on.
        equal_time: then real-only for as long as the configuration's own arm took, too.
        headroom: real-only alone, with n, 2n, 5n, 10n ... images.

    Raises:
        UserError: when there are no seeds, or equal time lacks an arm.
    """

    arms: str | None = None
    images: str | None = None
    oracle: str | None = None
    seeds: int = SEEDS
    equal_time: bool = False
    headroom: bool = False

    def __post_init__(self) -> None:
        _require_above_0("seeds", self.seeds)

    def runs(self, config: Config) -> list[Run]:
        """Every run of it but those in equal time, whose budget has to be measured.

        Raises:
            UserError: on unknown arms or numbers, too few images or labels, or equal time without its arms.
        """
        named = self.arms if self.arms is not None else ",".join(default_arms(config))
        arms = read_arms(REAL_ONLY if self.headroom else named)
        counts = read_counts(self.images, config, self.headroom)
        oracle = read_counts(self.oracle, config, headroom=False) if self.oracle else []
        if self.equal_time and not {REAL_ONLY, OWN} <= arms.keys():
            raise UserError(f"--equal-time compares the times of {REAL_ONLY} and {OWN}; --arms {named!r} needs both")
        return plan(config, arms, counts, self.seeds, oracle)


@dataclass(frozen=True)
class How:
    """Where it is computed, and for how long.

    Args:
        ray: whether on Ray; else on this machine without it.
        parallel: processes at a time, without Ray.
        minutes: after which it stops cleanly.

    Raises:
        UserError: when a number is not above 0.
    """

    ray: bool = True
    parallel: int = 1
    minutes: float = math.inf

    def __post_init__(self) -> None:
        _require_above_0("parallel", self.parallel)
        _require_above_0("minutes", self.minutes)

    def pool(self, config: Config) -> AbstractContextManager[Pool]:
        """Where the runs are done.

        Raises:
            UserError: when the cluster cannot be reached or is too small.
        """
        if self.ray:
            return nullcontext(on_ray(config))
        return nullcontext(in_this_process) if self.parallel == 1 else processes(self.parallel)


def planned(config: Config, asked: Asked) -> list[Run]:
    """Every run of a comparison, after its encoders and folders have been looked at and told of.

    Args:
        config: that arms change.
        asked: what is compared.

    Raises:
        UserError: as `Asked.runs`, or when an encoder or a reference cannot be made, or a folder not used.
    """
    runs = asked.runs(config)
    look_at_encoders(config)
    for told in describe_folders(runs):
        print(f"synthetic  {told}", flush=True)
    return runs


def look_at_encoders(config: Config) -> None:
    """Make the encoder and the references once, and print what they are.

    Raises:
        UserError: when one cannot be made.
    """
    require_encoder(config.encoder, config.data.channels, config.view_size)
    require_references(config)
    for name, told in describe_encoders(config):
        print(f"{name:<10} {told}", flush=True)


def begin(config: Config, runs: list[Run], how: How, *, equal_time: bool = False) -> bool:
    """Do what is left of the runs and print the report; the same call again continues.

    Args:
        config: that arms change.
        runs: from `planned`.
        how: where, and for how long.
        equal_time: as of `Asked`.

    Returns:
        Whether every run is finished.

    Raises:
        UserError: as `execute`.
    """
    place = Place(config)
    stop_at = time.monotonic() + 60 * how.minutes
    with how.pool(config) as pool:
        whole = execute(runs, place, pool, how.minutes)
        if equal_time and whole:
            longer = equal_time_runs(runs, place)
            runs = [*runs, *longer]
            whole = execute(longer, place, pool, max(0.0, (stop_at - time.monotonic()) / 60))
        if whole and config.evaluation.references:
            seeds = sorted({run.seed for run in runs})
            references.score_left(config, seeds, place.records / references.FOLDER, pool, print)
    finished = sum(is_finished(run, place) for run in runs)
    if finished:
        print(write(place))
    if not whole:
        print(f"{finished} of {len(runs)} runs are finished; the same command goes on")
    return whole


def _require_above_0(option: str, value: float) -> None:
    if not value > 0:
        raise UserError(f"--{option} {value} must be above 0")
