"""Ray Train around the trainer: one run on several data-parallel workers."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any

from synthcl import cluster, notice, parallel  # isort: skip  (cluster sets what Ray reads when it is imported)

import ray
import ray.train
import ray.train.torch
import torch
from ray.train.v2._internal.execution.callback import WorkerCallback
from ray.util.state import list_nodes
from ray.util.state.exception import RayStateApiException

from synthcl.config import Config
from synthcl.data import open_split
from synthcl.elastic import LOOK_SECONDS, ElasticTrainer, world_sizes
from synthcl.errors import Leaving, UserError
from synthcl.evaluation.rungs import evaluation
from synthcl.legs import legs
from synthcl.resume import keep, resume
from synthcl.storage import below
from synthcl.training import Metrics, Trainer
from synthcl.warmup import GanState

COLLECTIVE_SECONDS = 24 * 3600
"""how long processes wait for each other: longer than the first one scores; a dead one is noticed otherwise"""


def require_state_api() -> None:
    """Refuse a cluster that would never free what the workers of a trial held that was stopped early.

    When a trial is stopped, its Train controller is killed, and an actor on the head frees its placement group as soon
    as Ray's state API tells it so; that API is part of the dashboard.

    Raises:
        UserError: when the API does not answer on the head.
    """
    ask = ray.remote(num_cpus=0, resources={cluster.HEAD: 0.001}, max_retries=0)(_state_api_answers)
    if not ray.get(ask.remote()):
        raise UserError(
            "compute.workers_per_trial above 1 needs the cluster's dashboard, by which Ray frees what stopped trials "
            "held; start the head without --include-dashboard=false, or set compute.workers_per_trial=1"
        )


def _state_api_answers() -> bool:
    try:
        list_nodes(limit=1, timeout=10)
    except (RayStateApiException, OSError, RuntimeError, ValueError):
        return False
    return True


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
    wanted, sizes = cluster.needs(config, cluster.resources()), world_sizes(config.compute)
    settings = {"config": config, "gan": ray.put(gan), "place": below(root, name), "test": test}
    elastic: dict[str, Any] = {
        "num_workers": (sizes[0], sizes[-1]) if len(sizes) > 1 else sizes[0],
        "elastic_resize_monitor_interval_s": LOOK_SECONDS,
    }
    ElasticTrainer(
        sizes,
        train_loop_per_worker=_train_on_worker,
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
    """One data-parallel process: its share of every batch; the first one scores and saves."""
    config: Config = settings["config"]
    torch.set_num_threads(max(1, int(config.compute.cpus_per_worker)))
    device = ray.train.torch.get_device()
    images = open_split(config.data, "unlabelled", device).images
    trainer = Trainer(config, images, ray.get(settings["gan"]), device)
    if unheard := resume(trainer, settings["place"]):
        _report(unheard)
    for metrics in legs(trainer, evaluation(config, settings["test"]), notice.given):
        if parallel.rank() == 0 and metrics["sound"]:  # else the last good state stays
            keep(trainer, settings["place"], metrics)
        _report(metrics)
        if metrics["progress"] < 1 and parallel.anywhere(notice.must_go(), device):
            raise Leaving("told to leave; the run goes on from its checkpoint")


def _report(metrics: Metrics) -> None:
    ray.train.report(metrics | {"workers": parallel.world_size(), "kept on notice": notice.given()})


class _Listen(WorkerCallback):
    """Lets a worker take SIGTERM as notice to leave."""

    def after_init_train_context(self) -> None:
        notice.hear(signal.SIGTERM)
