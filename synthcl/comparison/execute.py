"""All runs of a plan: in this process, in a few processes of this machine, or as tasks of Ray."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial

from synthcl.comparison.plan import Run
from synthcl.comparison.records import Place, is_finished
from synthcl.comparison.run import perform, warm_up_gan
from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.core.progress import Progress

Job = Callable[[], bool]
"""does its work and says whether it is finished; may travel to another process"""
Pool = Callable[[list[Job]], Iterator[bool]]
"""does all jobs, first ones first, and yields as they end"""

LOOK_SECONDS = 2.0
"""between two looks at how far the runs are"""


def execute(plan: list[Run], place: Place, pool: Pool, minutes: float = math.inf) -> bool:
    """Do what is left of a plan; the same call again continues.

    Runs without a GAN come first, beside the warm-ups of the GANs that the others need.

    Args:
        plan: all runs of the comparison.
        place: of their records.
        pool: where the jobs are done.
        minutes: when to stop at the next logged point of every run. A warm-up is not interrupted.

    Returns:
        Whether every run is finished.

    Raises:
        UserError: when a record is of another configuration, or a run cannot be made.
    """
    stop_at = time.time() + 60 * minutes
    left = [run for run in plan if not is_finished(run, place)]
    place.records.mkdir(parents=True, exist_ok=True)
    with _Follow(plan, place):
        first: list[Job] = [partial(warm_up_gan, run, place, stop_at) for run in _one_of_each_gan(left)]
        alone = [run for run in left if not run.config.needs_gan]
        done = list(pool([*first, *(partial(perform, run, place, stop_at) for run in alone)]))
        others = [run for run in left if run.config.needs_gan]
        done += list(pool([partial(perform, run, place, stop_at) for run in others]))
    return all(done)


def in_this_process(jobs: list[Job]) -> Iterator[bool]:
    """One job after another."""
    for job in jobs:
        yield job()


@contextmanager
def processes(count: int) -> Iterator[Pool]:
    """`count` processes of this machine, which share its GPU if it has one.

    Args:
        count: at least 1.
    """
    # A fresh interpreter each: CUDA and threads do not survive a fork.
    executor = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _end_with_parent)

    def pool(jobs: list[Job]) -> Iterator[bool]:
        try:
            for future in as_completed([executor.submit(job) for job in jobs]):
                yield future.result()
        except BrokenProcessPool:
            raise UserError(
                f"one of {count} processes was killed, for want of memory perhaps; lower --parallel. "
                "The same command goes on where it stopped"
            ) from None

    try:
        yield pool
    finally:
        executor.shutdown(cancel_futures=True)


def on_ray(config: Config) -> Pool:
    """Tasks of Ray, on this machine or on the cluster the configuration names; a lost one is done again.

    Args:
        config: its compute section.

    Raises:
        UserError: when the cluster cannot be reached or is too small.
    """
    import ray  # a machine without Ray has the other pools

    from synthcl.cluster.connect import connect
    from synthcl.cluster.resources import gpus_per_worker, resources

    connect(config)
    gpus = gpus_per_worker(config, resources())
    task = ray.remote(num_cpus=config.compute.cpus_per_worker, num_gpus=gpus, max_retries=2)(_do)

    def pool(jobs: list[Job]) -> Iterator[bool]:
        waiting = [task.remote(job) for job in jobs]
        while waiting:
            ended, waiting = ray.wait(waiting)
            try:
                yield ray.get(ended[0])
            except ray.exceptions.RayTaskError as error:
                for other in waiting:
                    ray.cancel(other, force=True)
                raise error.cause from None  # without the wrapping traceback of the other process

    return pool


def _do(job: Job) -> bool:
    return job()


def _end_with_parent() -> None:
    """A worker does not outlive a killed command, which would leave it writing beside the next one's."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _one_of_each_gan(plan: list[Run]) -> list[Run]:
    """A run for every GAN that some runs need: the images and what the warm-up reads are the same."""
    found: dict[str, Run] = {}
    for run in plan:
        if run.config.needs_gan:
            config = run.config
            key = [config.data.model_dump(mode="json"), config.gan.warmup_reads(), config.gan_image_size]
            found.setdefault(json.dumps(key), run)
    return list(found.values())


class _Follow:
    """Shows how far all runs are and which GAN is being made, read off their files by a thread of its own."""

    def __init__(self, plan: list[Run], place: Place) -> None:
        self._plan, self._place = plan, place
        self._gans = _one_of_each_gan(plan)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> None:
        for run in self._gans:
            self._place.warm_up(run).unlink(missing_ok=True)  # of a command that was killed
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def _follow(self) -> None:
        spent, _ = self._spent()
        total = sum(map(_images, self._plan)) / 1000
        with Progress("comparison", total, "kimg", percent=True, done=spent) as progress:
            while True:
                last = self._ended.wait(LOOK_SECONDS)
                before, (spent, finished) = spent, self._spent()
                progress.describe(note=", ".join([f"{finished} of {len(self._plan)} runs", *self._warm_ups()]))
                progress.advance(spent - before)
                if last:
                    break

    def _warm_ups(self) -> list[str]:
        shown = []
        for run in self._gans:
            with suppress(OSError):  # not begun, or made
                share = json.loads(self._place.warm_up(run).read_text())
                shown.append(f"warming up the GAN of {run.images:,} images, seed {run.seed}: {share:.0%}")
        return shown

    def _spent(self) -> tuple[float, int]:
        """Thousand images trained on so far, and finished runs."""
        images, finished = 0, 0
        for run in self._plan:
            if self._place.record(run).is_file():
                images, finished = images + _images(run), finished + 1
                continue
            with suppress(OSError):  # not begun, or finished just now
                images += json.loads(self._place.legs(run).read_text())[-1]["images"]
        return images / 1000, finished


def _images(run: Run) -> int:
    return run.config.training.steps * run.config.training.batch_images
