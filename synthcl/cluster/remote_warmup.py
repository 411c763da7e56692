"""The GAN warm-up on a cluster's GPU, on whichever node has one free: followed by the driver, continued elsewhere."""

from __future__ import annotations

import signal
import time
from typing import Any

import ray
import torch
from ray.exceptions import RayError, RayTaskError
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from synthcl.cluster import preemption
from synthcl.config.schema import Config
from synthcl.core.errors import Leaving, UserError
from synthcl.data import open_split
from synthcl.runs.gan_cache import ShowProgress, warm_up
from synthcl.training.gan_warmup import Statistics
from synthcl.training.networks import GanState

DEVICE = "cuda"
LOOK_SECONDS = 0.5
"""between two looks of the driver at how far the warm-up is"""
TELL_SECONDS = 1.0
"""between two messages to the driver"""
ATTEMPTS = 3
"""that end in a crash at the same place before the warm-up is given up"""


def warm_up_on_gpu(config: Config, gpus: float, place: str, progress: ShowProgress) -> tuple[GanState, Statistics]:
    """`warm_up` as a Ray task. Where its node dies or drains, another one continues from the state that was kept.

    Args:
        config: of the warm-up and the images.
        gpus: that the task holds.
        place: path or URI of the unfinished warm-up's state, which every node reaches.
        progress: told in this process.

    Returns:
        As `warm_up`, on the CPU.

    Raises:
        UserError: when the training diverges, or its process dies again and again at the same place.
        KeyboardInterrupt: on notice to this process; the state has been kept.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    told = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    train = ray.remote(num_gpus=gpus, max_retries=0)(_train)
    furthest, seen, crashes = -1, 0, 0

    def show(done_images: int, total_images: int, statistics: Statistics) -> None:
        nonlocal seen
        seen = done_images
        progress(done_images, total_images, statistics)

    try:
        with preemption.catching_signals(signal.SIGINT, signal.SIGTERM):
            while True:
                try:
                    return _followed(train.remote(config, place, told, DEVICE), told, show)
                except RayTaskError as error:
                    if not isinstance(error.cause, Leaving):
                        raise error.cause from None
                    if preemption.signalled():
                        raise KeyboardInterrupt from None
                except RayError as error:  # its process or node is gone
                    crashes = 1 if seen > furthest else crashes + 1
                    furthest = max(furthest, seen)
                    if crashes == ATTEMPTS:
                        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                        raise UserError(
                            f"GAN warm-up failed again and again at {furthest} images: {reason}; "
                            "the same command continues it"
                        ) from None
    finally:
        told.shutdown()


def _followed(task: Any, told: Queue, progress: ShowProgress) -> tuple[GanState, Statistics]:
    """Wait for the task and show what it tells; pass on notice to leave, once."""
    deadline = float("inf")
    while True:
        ended = ray.wait([task], timeout=LOOK_SECONDS)[0]
        if points := told.get_nowait_batch(told.size()):
            progress(*points[-1])
        if ended:
            result: tuple[GanState, Statistics] = ray.get(task)
            return result
        if preemption.signalled() and deadline == float("inf"):
            preemption.tell_job()
            deadline = time.monotonic() + preemption.LEAVE_SECONDS
        if time.monotonic() > deadline:
            raise KeyboardInterrupt


def _train(config: Config, place: str, told: Queue, device_name: str) -> tuple[GanState, Statistics]:
    """The task."""
    device = torch.device(device_name)
    next_time = 0.0

    def tell(done_images: int, total_images: int, statistics: Statistics) -> None:
        nonlocal next_time
        if time.monotonic() >= next_time or done_images == total_images:
            next_time = time.monotonic() + TELL_SECONDS
            told.put((done_images, total_images, statistics))

    with preemption.catching_signals(signal.SIGTERM):
        images = open_split(config.data, "unlabelled", device).images
        state, statistics = warm_up(config, images, device, tell, place, preemption.checkpoint_requested)
    return {name: {key: value.cpu() for key, value in part.items()} for name, part in state.items()}, statistics
