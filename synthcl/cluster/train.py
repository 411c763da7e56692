"""One configuration from warm-up to exported encoder, without a search around it."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any, cast

import ray.train
import torch
from ray.util.queue import Queue
from torch import nn

from synthcl.cluster import preemption, train_workers
from synthcl.cluster.connect import connect, require_storage
from synthcl.cluster.warmup import warmed_gan
from synthcl.config.compatibility import REFERENCES, WHERE_IT_RUNS, require_same_config
from synthcl.config.schema import Config
from synthcl.core.atomic import write_whole
from synthcl.core.errors import UserError
from synthcl.core.report import Report
from synthcl.data import ImageSource
from synthcl.runs.checkpoint import load
from synthcl.runs.checkpoint_store import fetched
from synthcl.runs.disk import require_space
from synthcl.runs.export import load_any, save_encoder
from synthcl.runs.label_free import describe_features, draw_neighbours, neighbours_file
from synthcl.runs.preflight import open_data
from synthcl.runs.storage import Storage
from synthcl.runs.tensorboard import RunLog, hyperparameters
from synthcl.training.networks import GanState


def run_training(config: Config, name: str, *, fresh: bool = False) -> Path:
    """Train one configuration from warm-up to exported encoder; the same call again continues.

    Args:
        config: the whole configuration.
        name: of the run inside the config's folder.
        fresh: forget an earlier run of this name.

    Returns:
        The exported `.safetensors` file.

    Raises:
        UserError: on unusable storage, data or cluster, an earlier run with another configuration, or divergence.
    """
    storage = Storage(config.compute.storage, config.name)
    with storage.failures_named():
        return _run(storage, config, name, fresh)


def _run(storage: Storage, config: Config, name: str, fresh: bool) -> Path:
    storage.probe()
    storage.pull()
    recorded, target = storage.folder / f"{name}.config.json", storage.folder / f"{name}.safetensors"
    if not fresh:
        require_same_config(recorded, config, {*WHERE_IT_RUNS, *REFERENCES})
    if target.is_file() and not fresh:
        print(f"{target}: complete; --fresh starts over")
        return target
    data = open_data(config, test=False, chooses=False)
    print(data.describe(), flush=True)
    connect(config)
    require_storage(storage)
    require_space(storage, config, kept=1, at_a_time=1)
    if fresh:  # not before everything that can be refused has been checked
        for part in (name, f"{name}.config", neighbours_file(target).stem):
            storage.clear(part)
        shutil.rmtree(storage.folder / "tensorboard" / name, ignore_errors=True)
    storage.folder.mkdir(parents=True, exist_ok=True)
    write_whole(recorded, config.model_dump_json(indent=2) + "\n")
    encoder, trained, report = trained_to_the_end(config, name, storage, data.images)
    if not data.own.train:
        print(describe_features(report.scores, cast(int, encoder.feature_dim)))
        draw_neighbours(neighbours_file(target), encoder, trained)
        print(f"neighbours: {neighbours_file(target)}, a row an image and those nearest to it; the best way to judge")
    save_encoder(target, encoder.cpu(), trained, report.scores)
    storage.push()
    scored = f"score {report.score:.2f} on validation" if report.score is not None else "not scored, no labels"
    print(f"{target}  {scored}")
    return target


def trained_to_the_end(
    config: Config, name: str, storage: Storage, images: ImageSource
) -> tuple[nn.Module, Config, Report]:
    """Warm up and train one configuration, from its last checkpoint on, on the cluster that has been joined.

    Args:
        config: the whole configuration.
        name: of the run inside the storage's folder.
        storage: of the run.
        images: that it trains on.

    Returns:
        (encoder on the CPU in eval mode, the configuration of its checkpoint, the last report).

    Raises:
        UserError: on divergence, or when workers fail again and again.
    """
    gan = warmed_gan(config, images, storage)
    with Relay(config, storage.folder / "tensorboard" / name) as relay:
        _fit(config, gan, storage.ray_uri(), name, relay)
    if relay.last and relay.last.failure:
        raise UserError(f"run {name!r} diverged: {relay.last.failure}; lower training.learning_rate")
    with fetched(storage.ray_uri(name)) as folder:
        report = Report.from_dict(load(folder, torch.device("cpu"))["report"])
        encoder, trained = load_any(folder, trust_code=True)  # of this run, which has called it
    return encoder.cpu(), trained, report


def _fit(config: Config, gan: GanState | None, root: str, name: str, relay: Relay) -> None:
    """Train to the end, again after failures as long as there is progress, or leave on notice with a checkpoint."""
    outcome: list[Exception | None] = []

    def train() -> None:
        reached = -1
        while not outcome:
            try:
                train_workers.fit(config, gan, root, name, callbacks=[relay.callback])
                outcome.append(None)
            except ray.train.TrainingFailedError as error:
                if relay.images <= reached:
                    outcome.append(error)
                reached = relay.images

    # In a thread of its own, because the main one is asleep inside Ray otherwise and hears no signal.
    thread = threading.Thread(target=train, daemon=True)
    with preemption.catching_signals(signal.SIGINT, signal.SIGTERM):
        thread.start()
        while thread.is_alive() and not preemption.signalled():
            thread.join(0.2)
        if preemption.signalled():
            preemption.tell_job()
            deadline = time.monotonic() + preemption.LEAVE_SECONDS
            while thread.is_alive() and not (relay.last and relay.last.preempted) and time.monotonic() < deadline:
                thread.join(0.2)
            if thread.is_alive():
                raise KeyboardInterrupt
    if outcome and outcome[0]:
        reason = str(outcome[0]).strip().splitlines()
        raise UserError(f"run {name!r} failed again and again: {reason[0]}; the same command goes on")


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
        self._log = RunLog(folder, hyperparameters(config, Config(name=config.name)))
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._workers = config.compute.workers_per_trial
        self.callback = _Forward(self._queue)
        self.last: Report | None = None

    @property
    def images(self) -> int:
        """Images seen at the last report."""
        return self.last.images if self.last else 0

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._queue.put(None)
        self._thread.join(timeout=10)
        self._log.close()
        self._queue.shutdown()

    def _follow(self) -> None:
        while (told := self._queue.get()) is not None:
            report = Report.from_dict(told)
            self._log.report(report)
            if report.workers != self._workers:
                self._workers = report.workers
                print(f"goes on with {self._workers} workers, the same batch and the same negatives", flush=True)
            contrast = report.history[-1]["loss/contrast"] if report.history else float("nan")
            score = "" if report.score is None else f"score {report.score:6.2f}"
            spent = f"{report.images / 1000:8.1f} kimg {report.progress:5.0%}"
            print(f"{spent}  contrastive loss {contrast:.3f}  {score}", flush=True)
            self.last = report
