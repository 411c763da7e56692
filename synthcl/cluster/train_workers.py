"""Ray Train around the trainer: a run on several data-parallel workers."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from ray.util.state import list_nodes
from ray.util.state.exception import RayStateApiException

from synthcl.cluster import preemption
from synthcl.cluster.capacity import HEAD
from synthcl.cluster.elastic import LOOK_SECONDS, ElasticTrainer, world_sizes
from synthcl.cluster.ray_internals import WorkerCallback
from synthcl.cluster.resources import needs, resources
from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.core.report import Report
from synthcl.runs.location import below
from synthcl.runs.session import evaluation, reports, trainer_of
from synthcl.training.networks import GanState

COLLECTIVE_SECONDS = 24 * 3600
"""how long processes wait for each other: longer than the first one scores; a dead one is noticed otherwise"""


def require_state_api() -> None:
    """Refuse a cluster that would not free what the workers of a killed trial held.

    When a trial's process dies, its Train controller dies, too, and an actor on the head frees its placement group as
    soon as Ray's state API tells it so; that API is part of the dashboard.

    Raises:
        UserError: when the API does not answer on the head.
    """
    ask = ray.remote(num_cpus=0, resources={HEAD: 0.001}, max_retries=0)(_complaint_of_state_api)
    if reason := ray.get(ask.remote()):
        raise UserError(
            "compute.workers_per_trial above 1 needs the cluster's dashboard, by which Ray frees what killed trials "
            f"held, and it does not answer ({reason}); start the head without --include-dashboard=false, or set "
            "compute.workers_per_trial=1"
        )


def _complaint_of_state_api() -> str:
    """Why Ray's state API does not answer, or nothing."""
    try:
        list_nodes(ray.get_runtime_context().gcs_address, limit=1, timeout=10)  # another cluster may run here, too
    except (RayStateApiException, OSError, RuntimeError, ValueError) as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ""


def fit(
    config: Config,
    gan: GanState | None,
    root: str,
    name: str,
    *,
    test: bool = False,
    callbacks: Sequence[ray.train.UserCallback] = (),
) -> None:
    """Train one configuration on `compute.workers_per_trial` Ray Train workers; the same call again continues.

    Args:
        config: the whole configuration.
        gan: the warmed-up GAN, or None for a real-only run.
        root: folder or URI under which the run has its checkpoint, and Ray its own state.
        name: of the run under the root.
        test: whether the last rung also reads the test split.
        callbacks: told of every report.

    Raises:
        ray.train.TrainingFailedError: when the workers failed again and again.
    """
    settings = {"config": config, "gan": ray.put(gan), "place": below(root, name), "test": test}
    train_on_workers(_train_on_worker, settings, config, root, name, callbacks)


def train_on_workers(
    loop: Callable[[dict[str, Any]], None],
    settings: dict[str, Any],
    config: Config,
    root: str,
    name: str,
    callbacks: Sequence[ray.train.UserCallback] = (),
) -> None:
    """Run a loop on `compute.workers_per_trial` Ray Train workers, or on fewer while nodes are missing.

    Args:
        loop: called on every worker, again when workers were lost or joined.
        settings: given to the loop.
        config: its compute section.
        root: folder or URI under which Ray has its own state.
        name: of the run under the root.
        callbacks: told of every report.

    Raises:
        ray.train.TrainingFailedError: when the workers failed again and again.
    """
    wanted, sizes = needs(config, resources()), world_sizes(config.compute)
    elastic: dict[str, Any] = {
        "num_workers": (sizes[0], sizes[-1]) if len(sizes) > 1 else sizes[0],
        "elastic_resize_monitor_interval_s": LOOK_SECONDS,
    }
    ElasticTrainer(
        sizes,
        train_loop_per_worker=loop,
        train_loop_config=settings,
        torch_config=ray.train.torch.TorchConfig("nccl" if "GPU" in wanted else "gloo", timeout_s=COLLECTIVE_SECONDS),
        scaling_config=ray.train.ScalingConfig(use_gpu="GPU" in wanted, resources_per_worker=wanted, **elastic),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=below(root, "workers"),
            failure_config=ray.train.FailureConfig(max_failures=2),
            callbacks=list[Any]([_Listen(), *callbacks]),
        ),
    ).fit()


def _train_on_worker(settings: dict[str, Any]) -> None:
    for report in worker_reports(settings["config"], ray.get(settings["gan"]), settings["place"], settings["test"]):
        ray.train.report(report.as_dict())


def worker_reports(
    config: Config, gan: GanState | None, place: str, test: bool, parent: str | None = None
) -> Iterator[Report]:
    """Train as one data-parallel process: its share of every batch; the first one scores and saves.

    Args:
        config: the whole configuration.
        gan: the warmed-up GAN; a real-only run needs none.
        place: folder or URI of the run's checkpoint.
        test: whether the last rung also reads the test split.
        parent: of the run that this one is a copy of, if it is one.
    """
    device = ray.train.torch.get_device() if has_gpu() else torch.device("cpu")
    pause, must_leave = preemption.checkpoint_requested, preemption.must_leave
    return reports(trainer_of(config, gan, device), place, evaluation(config, test), pause, must_leave, parent)


def has_gpu() -> bool:
    """Whether Ray gave this process a GPU; one that was given none sees all of them nevertheless."""
    return ray.is_initialized() and bool(ray.get_runtime_context().get_accelerator_ids()["GPU"])


class _Listen(WorkerCallback):
    """Lets a worker take SIGTERM as notice to leave."""

    def after_init_train_context(self) -> None:
        preemption.catch_signals(signal.SIGTERM)
