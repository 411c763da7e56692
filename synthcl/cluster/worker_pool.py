"""Workers that outlive a run: to start Ray Train's processes takes many seconds, to give them the next run none."""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from typing import Any, NamedTuple

import ray
import ray.train
from ray.train.collective import broadcast_from_rank_zero
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from synthcl.cluster import train_workers
from synthcl.config.schema import Config
from synthcl.core.report import Report
from synthcl.runs.location import below
from synthcl.training.networks import Gans

LOOK_SECONDS = 5.0
"""between two looks whether the workers are still there"""
CLOSE_SECONDS = 30.0
"""how long workers have to go; what is left then dies with the process that asked for them"""


class WorkerPool:
    """A group of Ray Train workers that a slot of a search reuses for one run after another, a leg at a time.

    Starting the processes takes longer than many trials. When Ray replaces or resizes the group, the new workers resume
    from the run's last checkpoint and answer the pending request; the caller only waits longer.

    Args:
        base: the configuration that the runs' overrides change.
        gans: the warmed-up GAN of each draw of images, by its seed; None where no run needs one.
        root: folder or URI of the runs.
        test: whether last rungs also read the test split.
    """

    def __init__(self, base: Config, gans: Gans, root: str, *, test: bool) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._mailbox = _mailbox().options(num_cpus=0, scheduling_strategy=here).remote()
        self._asked = 0
        self._failure: Exception = RuntimeError("the workers left before they were let go")
        settings = {"mailbox": self._mailbox, "base": base, "gans": ray.put(gans), "root": root, "test": test}
        self._thread = threading.Thread(target=self._work, args=(settings, base, root), daemon=True)
        self._thread.start()

    def _work(self, settings: dict[str, Any], base: Config, root: str) -> None:
        name = f"{os.getpid()}-{uuid.uuid4().hex}"  # tells whose workers these are, and is never met again
        try:
            train_workers.train_on_workers(_serve, settings, base, root, name)
        except Exception as failure:  # raised where the leg is waited for
            self._failure = failure

    def leg(self, name: str, overrides: dict[str, Any], heard_seconds: float, parent: str | None = None) -> Report:
        """Train a run up to its next report.

        Args:
            name: of the run under the root.
            overrides: `{dotted field: value}` of its configuration.
            heard_seconds: of the last report of the run that was heard; 0 before the first.
            parent: folder or URI of the run whose checkpoint this one begins with, if it is a copy.

        Raises:
            ray.train.TrainingFailedError: when the workers failed again and again.
        """
        self._asked += 1
        answer = self._mailbox.ask.remote(tuple(_Leg(self._asked, name, overrides, heard_seconds, parent)))
        while not ray.wait([answer], timeout=LOOK_SECONDS)[0]:
            if not self._thread.is_alive():
                raise self._failure
        return Report.from_dict(ray.get(answer))

    def close(self) -> None:
        """Let the workers go, and wait until they have gone."""
        ray.get(self._mailbox.close.remote())
        self._thread.join(CLOSE_SECONDS)
        ray.kill(self._mailbox)


class _Leg(NamedTuple):
    number: int  # rises with every leg that is asked for
    run: str
    overrides: dict[str, Any]
    heard_seconds: float
    parent: str | None


def _mailbox() -> Any:
    @ray.remote
    class Mailbox:  # a local class travels by value, and a leg as a plain tuple: this process need not import torch
        """Where the search leaves one leg at a time, and waits for what comes of it."""

        def __init__(self) -> None:
            self._changed = asyncio.Condition()
            self._leg: Any = None
            self._answer: Any = None
            self._open = True

        async def ask(self, leg: Any) -> Any:
            async with self._changed:
                self._leg, self._answer = leg, None
                self._changed.notify_all()
                await self._changed.wait_for(lambda: self._answer is not None)
                return self._answer

        async def take(self) -> Any:
            """The leg that waits for an answer, for every group of workers that asks; None when there will be none."""
            async with self._changed:
                await self._changed.wait_for(lambda: not self._open or (self._leg and self._answer is None))
                return self._leg if self._open else None

        async def answer(self, number: int, answer: Any) -> None:
            async with self._changed:
                if number == self._leg[0]:  # not from workers that have been replaced
                    self._answer = answer
                    self._changed.notify_all()

        async def close(self) -> None:
            async with self._changed:
                self._open = False
                self._changed.notify_all()

    return Mailbox


def _serve(settings: dict[str, Any]) -> None:
    """One worker, until there are no more legs; the first one fetches them and answers."""
    mailbox, gans = settings["mailbox"], ray.get(settings["gans"])
    first = ray.train.get_context().get_world_rank() == 0
    run, reports = "", iter(list[Report]())
    while taken := broadcast_from_rank_zero(ray.get(mailbox.take.remote()) if first else None):
        leg = _Leg(*taken)
        if leg.run != run:
            run, config = leg.run, settings["base"].with_overrides(leg.overrides)
            gan, place = gans[config.data.split_seed], below(settings["root"], run)
            reports = train_workers.worker_reports(config, gan, place, settings["test"], leg.parent)
        report = next(reports)
        if report.seconds == leg.heard_seconds:  # that of the checkpoint from which new workers go on
            report = next(reports)
        if first:
            ray.get(mailbox.answer.remote(leg.number, report.as_dict()))
