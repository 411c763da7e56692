"""GAN warm-ups as tasks of Ray, side by side where nodes have room: followed by the driver, continued elsewhere."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from typing import Any

import ray
import torch
from ray.exceptions import RayError, RayTaskError
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from synthcl.cluster import preemption
from synthcl.config.schema import Config
from synthcl.core.device import use_threads
from synthcl.core.errors import Leaving, UserError
from synthcl.data import open_split
from synthcl.runs.gan_cache import CacheEntry, ShowProgress, total_images, warm_up
from synthcl.training.gan_warmup import Statistics
from synthcl.training.networks import GanState

DEVICE = "cuda"
"""of a task that holds a share of a GPU"""
LOOK_SECONDS = 0.5
"""between two looks of the driver at how far the warm-ups are"""
TELL_SECONDS = 1.0
"""between two messages to the driver"""
ATTEMPTS = 3
"""that end in a crash at the same place before a warm-up is given up"""


def warm_up_on_ray(entries: Sequence[CacheEntry], cpus: float, gpus: float, progress: ShowProgress) -> None:
    """`warm_up` as a task of Ray for each entry, which is written as soon as its own ends.

    Where a node dies or drains, another one continues from the state that was kept. As many run at a time as the
    cluster has room for.

    Args:
        entries: that are not made yet, no two the same; every node reaches their `place`.
        cpus: that each task holds, and threads that it has; some node has as many.
        gpus: that each task holds; with 0 it trains on its CPUs.
        progress: told in this process, of all together: the images are sums, the statistics means.

    Raises:
        UserError: when a training diverges, or its process dies again and again at the same place.
        KeyboardInterrupt: on notice to this process; the states have been kept.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    told = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    followed = [_Followed(number, entry, cpus, gpus, told) for number, entry in enumerate(entries)]
    total = sum(total_images(entry.config, entry.images) for entry in entries)
    waiting: dict[Any, _Followed] = {}
    deadline = float("inf")
    try:
        with preemption.catching_signals(signal.SIGINT, signal.SIGTERM):
            waiting = {each.begin(): each for each in followed}
            while waiting:
                ended, _ = ray.wait(list(waiting), timeout=LOOK_SECONDS)
                for number, *point in told.get_nowait_batch(told.size()):
                    followed[number].seen = point
                progress(sum(each.images for each in followed), total, _means(followed))
                for task in ended:
                    each = waiting.pop(task)
                    if not each.has_ended(task):
                        waiting[each.begin()] = each
                if preemption.signalled() and deadline == float("inf"):
                    preemption.tell_job()
                    deadline = time.monotonic() + preemption.LEAVE_SECONDS
                if time.monotonic() > deadline:
                    raise KeyboardInterrupt
            if preemption.signalled():
                raise KeyboardInterrupt
    finally:
        for task in waiting:
            ray.cancel(task, force=True)
        told.shutdown()


class _Followed:
    """One warm-up of several, through all its tasks."""

    def __init__(self, number: int, entry: CacheEntry, cpus: float, gpus: float, told: Queue) -> None:
        self.number, self.entry, self.told = number, entry, told
        self.seen: list[Any] = []
        """images done, images in all and the statistics, as last told"""
        self._furthest, self._crashes = -1, 0
        self._where = cpus, DEVICE if gpus else "cpu"
        self._train = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(_train)

    @property
    def images(self) -> int:
        return self.seen[0] if self.seen else 0

    def begin(self) -> Any:
        return self._train.remote(self.number, self.entry.config, self.entry.place, self.told, *self._where)

    def has_ended(self, task: Any) -> bool:
        """Whether nothing of it is left to do now: it is written, or kept because this process must leave."""
        try:
            self.entry.write(*ray.get(task))
        except RayTaskError as error:
            if not isinstance(error.cause, Leaving):
                raise error.cause from None
            return preemption.signalled()  # else its node drains
        except RayError as error:  # its process or node is gone
            self._crashes = 1 if self.images > self._furthest else self._crashes + 1
            self._furthest = max(self._furthest, self.images)
            if self._crashes == ATTEMPTS:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise UserError(
                    f"GAN warm-up failed again and again at {self._furthest} images: {reason}; "
                    "the same command continues it"
                ) from None
            return False
        return True


def _means(followed: Sequence[_Followed]) -> Statistics:
    known = [each.seen[2] for each in followed if each.seen and each.seen[2]]
    return {name: sum(each[name] for each in known) / len(known) for name in known[0]} if known else {}


def _train(
    number: int, config: Config, place: str, told: Queue, cpus: float, device_name: str
) -> tuple[GanState, Statistics]:
    """The task."""
    use_threads(cpus)
    device = torch.device(device_name)
    next_time = 0.0

    def tell(done_images: int, total_images: int, statistics: Statistics) -> None:
        nonlocal next_time
        if time.monotonic() >= next_time or done_images == total_images:
            next_time = time.monotonic() + TELL_SECONDS
            told.put((number, done_images, total_images, statistics))

    with preemption.catching_signals(signal.SIGTERM):
        images = open_split(config.data, "unlabelled", device).images
        state, statistics = warm_up(config, images, device, tell, place, preemption.checkpoint_requested)
    return {name: {key: value.cpu() for key, value in part.items()} for name, part in state.items()}, statistics
