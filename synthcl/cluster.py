"""Where synthcl meets Ray: joining a cluster, and Ray Train around the trainer."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

# Read by Ray when it is imported: our own log replaces the default loggers, only rungs carry a score, and an
# interrupt must leave a stage unfinished where Tune would return as if it were done.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "5")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
import ray.train
import ray.train.torch
import torch
from ray._private.state import state as ray_state
from ray.util.queue import Queue

from synthcl.config import WHERE_IT_RUNS, Config, require_same_config
from synthcl.curriculum import is_real_only
from synthcl.data import ImageSource, open_split
from synthcl.errors import UserError
from synthcl.evaluation.rungs import evaluation
from synthcl.export import load_any, save_encoder, write_text
from synthcl.logs import RunLog, is_metric
from synthcl.preflight import open_data
from synthcl.storage import Storage
from synthcl.training import Trainer, legs
from synthcl.warmup import GanState, cached_gan, warm_up


def connect(config: Config, driver_cpus: float = 0) -> None:
    """Join the cluster the config (or RAY_ADDRESS) names, or start Ray on this machine.

    Args:
        config: its compute section.
        driver_cpus: what a trial holds beside its workers.

    Raises:
        UserError: when the cluster cannot be reached or lacks what one trial needs.
    """
    address = config.compute.address or os.environ.get("RAY_ADDRESS") or "local"
    require_answer(address)
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if not ray.is_initialized():
        try:
            # The dashboard listens on loopback; nested Train runs need its state API to free their workers.
            if address == "local":
                ray.init(
                    address=address,
                    include_dashboard=config.compute.workers_per_trial > 1,
                    dashboard_host="127.0.0.1",
                    **quiet,
                )
            else:
                ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _no_cluster(address, error) from None
    require_resources(config, resources(), driver_cpus)


def require_answer(address: str) -> None:
    """Refuse at once an address of the form host:port where nobody listens; Ray itself tries for minutes.

    Raises:
        UserError: naming the address and the reason.
    """
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if separator:
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except (OSError, ValueError, OverflowError) as error:
            raise _no_cluster(address, error) from None


def _no_cluster(address: str, error: Exception) -> UserError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UserError(
        f"compute.address {address!r}: no Ray cluster answers there ({reason}); start one with "
        "'ray start --head' or leave compute.address empty for this machine"
    )


def resources() -> dict[str, float]:
    """What the joined cluster has, by kind, or may grow to where it has an autoscaler."""
    largest = ray_state.get_max_resources_from_cluster_config() or {}
    there = ray.cluster_resources()
    return {kind: max(there.get(kind, 0), largest.get(kind, 0)) for kind in {*there, *largest}}


def gpus_per_worker(config: Config, available: dict[str, float]) -> float:
    """GPUs of one worker: as configured, else one where the cluster has any."""
    if config.compute.gpus_per_worker is not None:
        return config.compute.gpus_per_worker
    return 1.0 if available.get("GPU", 0) > 0 else 0.0


def require_resources(config: Config, available: dict[str, float], driver_cpus: float = 0) -> None:
    """Refuse a configuration whose single trial does not fit the cluster.

    Raises:
        UserError: naming what is asked and what there is.
    """
    compute = config.compute
    wanted = {
        "CPU": compute.workers_per_trial * compute.cpus_per_worker + driver_cpus,
        "GPU": compute.workers_per_trial * gpus_per_worker(config, available),
    }
    for kind, amount in wanted.items():
        if amount > available.get(kind, 0):
            raise UserError(
                f"compute.workers_per_trial={compute.workers_per_trial} needs {amount:g} {kind}s a trial, "
                f"the cluster has {available.get(kind, 0):g}; lower compute.workers_per_trial or "
                f"compute.{kind.lower()}s_per_worker"
            )


def warmed_gan(config: Config, images: ImageSource, storage: Storage) -> GanState | None:
    """The GAN that all trials share, from the cache under the storage root or trained now; None when none is needed.

    Where trials get GPUs, the warm-up gets one too, on whichever node has it free.

    Raises:
        UserError: when the images or the cached file are unusable, or the warm-up diverges.
    """
    if is_real_only(config):
        return None
    gpus = min(1.0, gpus_per_worker(config, resources()))
    train = partial(_warm_up_on_gpu, config, gpus) if gpus else None
    gan = cached_gan(config, images, storage.shared / "gan", torch.device("cpu"), train=train)
    storage.push()
    return gan


def _warm_up_on_gpu(config: Config, gpus: float) -> tuple[GanState, dict[str, float]]:
    @ray.remote(num_gpus=gpus, max_retries=2)
    def warm_up_there() -> tuple[GanState, dict[str, float]]:
        device = torch.device("cuda")
        state, statistics = warm_up(config, open_split(config.data, "unlabelled", device).images, device)
        return {name: {key: value.cpu() for key, value in part.items()} for name, part in state.items()}, statistics

    return ray.get(warm_up_there.remote())


def fit(
    config: Config,
    gan: GanState | None,
    root: str,
    name: str,
    *,
    test: bool = False,
    callbacks: Sequence[ray.train.UserCallback] = (),
) -> ray.train.Result:
    """Train one configuration on `compute.workers_per_trial` Ray Train workers; the same call again continues.

    Args:
        config: the whole configuration.
        gan: the warmed-up GAN, or None for a real-only run.
        root: folder or URI for Ray's state and the checkpoints.
        name: of the run under the root.
        test: whether the last rung also reads the test split.
        callbacks: told of every report.
    """
    gpus = gpus_per_worker(config, resources())
    trainer = ray.train.torch.TorchTrainer(
        _train_on_worker,
        train_loop_config={"config": config, "gan": ray.put(gan), "test": test},
        torch_config=ray.train.torch.TorchConfig(backend="nccl" if gpus else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.compute.workers_per_trial,
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": config.compute.cpus_per_worker} | ({"GPU": gpus} if gpus else {}),
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=root,
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
            failure_config=ray.train.FailureConfig(max_failures=2),
            callbacks=list[Any](callbacks),
        ),
    )
    return trainer.fit()


def run_training(config: Config, name: str, *, fresh: bool = False) -> Path:
    """Train one configuration from warm-up to exported encoder; the same call again continues.

    Args:
        config: the whole configuration.
        name: of the run inside the config's folder.
        fresh: forget an earlier run of this name.

    Returns:
        The exported `.safetensors` file.

    Raises:
        UserError: on unusable storage, data or cluster, or an earlier run with another configuration.
    """
    storage = Storage(config.compute.storage, config.name)
    storage.probe()
    storage.pull()
    recorded, target = storage.folder / f"{name}.config.json", storage.folder / f"{name}.safetensors"
    if not fresh:
        require_same_config(recorded, config, WHERE_IT_RUNS)
    if target.is_file() and not fresh:
        print(f"{target}: complete; --fresh starts over")
        return target
    images = open_data(config)
    connect(config)
    if fresh:  # not before everything that can be refused has been checked
        for part in (name, f"{name}.config"):
            storage.clear(part)
        shutil.rmtree(storage.folder / "tensorboard" / name, ignore_errors=True)
    storage.folder.mkdir(parents=True, exist_ok=True)
    write_text(recorded, config.model_dump_json(indent=2) + "\n")
    gan = warmed_gan(config, images, storage)
    with Relay(config, storage.folder / "tensorboard" / name) as relay:
        result = fit(config, gan, storage.ray_path, name, callbacks=[relay.callback])
    if result.error or result.checkpoint is None:
        raise UserError(f"run {name!r} ended without a checkpoint ({result.error}); the same command continues it")
    with result.checkpoint.as_directory() as folder:
        encoder, trained = load_any(Path(folder))
    metrics = result.metrics or {}
    if metrics.get("diverged"):
        raise UserError(f"run {name!r} diverged: {metrics['reason']}; lower training.learning_rate")
    save_encoder(target, encoder, trained, {key: value for key, value in metrics.items() if is_metric(key)})
    storage.push()
    print(f"{target}  score {metrics.get('score', float('nan')):.2f} on validation")
    return target


class _Forward(ray.train.UserCallback):
    """Runs beside Ray Train's controller and sends rank 0's reports to the driver."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        self.queue.put(metrics[0])


class Relay:
    """Brings the reports of a Ray Train run to the driver: a line each, and TensorBoard logs.

    Args:
        config: the used configuration.
        folder: of the TensorBoard logs.
    """

    def __init__(self, config: Config, folder: Path) -> None:
        self._queue = Queue(actor_options={"num_cpus": 0})
        self._log = RunLog(folder, config)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self.callback = _Forward(self._queue)

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._queue.put(None)
        self._thread.join(timeout=10)
        self._log.close()
        self._queue.shutdown()

    def _follow(self) -> None:
        while (metrics := self._queue.get()) is not None:
            self._log.report(metrics)
            contrast = metrics["history"][-1]["loss/contrast"] if metrics["history"] else float("nan")
            score = f"score {metrics['score']:6.2f}" if "score" in metrics else ""
            spent = f"{metrics['images'] / 1000:8.1f} kimg {metrics['progress']:5.0%}"
            print(f"{spent}  contrastive loss {contrast:.3f}  {score}", flush=True)


def _train_on_worker(settings: dict[str, Any]) -> None:
    """One data-parallel process: its share of every batch; rank 0 scores and saves."""
    config: Config = settings["config"]
    torch.set_num_threads(max(1, int(config.compute.cpus_per_worker)))
    device = ray.train.torch.get_device()
    images = open_split(config.data, "unlabelled", device).images
    trainer = Trainer(config, images, ray.get(settings["gan"]), device)
    if saved := ray.train.get_checkpoint():
        with saved.as_directory() as folder:
            trainer.load(Path(folder))
    first = ray.train.get_context().get_world_rank() == 0
    for metrics in legs(trainer, evaluation(config, settings["test"])):
        with tempfile.TemporaryDirectory() as folder:
            if first:
                trainer.save(Path(folder))
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder) if first else None)
