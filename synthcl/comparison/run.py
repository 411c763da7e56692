"""One run from its first step to its record, in as many sittings as it takes."""

from __future__ import annotations

import json
import math
import platform
import shutil
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from synthcl import data
from synthcl.comparison.plan import Run
from synthcl.comparison.records import Place, Record, digest
from synthcl.config.schema import Config, DataConfig
from synthcl.core.atomic import write_whole
from synthcl.evaluation.names import is_metric
from synthcl.runs import checkpoint
from synthcl.runs.checkpoint_store import load, save
from synthcl.runs.gan_cache import ShowProgress, cached_gan
from synthcl.runs.session import evaluation
from synthcl.training.gan_warmup import Statistics
from synthcl.training.loop import run_to_end
from synthcl.training.trainer import Metrics, Trainer

Leg = dict[str, Any]
"""images, seconds, metrics and the last logged statistics of one stretch of training"""


SHARE_SECONDS = 2.0
"""between two notes of how far a warm-up is"""


def perform(run: Run, place: Place, stop_at: float = math.inf) -> bool:
    """Train what is left of a run, score it and write its record; test is scored once, at its end.

    Args:
        run: what to do; nothing is done again.
        place: of record, checkpoint and warmed-up GANs.
        stop_at: seconds since the epoch; the first logged point after it is the last of this sitting.

    Returns:
        Whether the run is finished.
    """
    if place.record(run).is_file():
        shutil.rmtree(place.checkpoint(run), ignore_errors=True)  # the end was cut short after the record
        return True
    if time.time() >= stop_at:
        return False
    trainer = _trainer(run, place)
    finished = _resume(trainer, run, place)
    pause_at = time.monotonic() + stop_at - time.time()
    for metrics in run_to_end(
        trainer, evaluation(_all_images(run.config), test=True), lambda: time.monotonic() >= pause_at
    ):
        finished.append(_leg(metrics))
        if metrics["diverged"] or metrics["progress"] == 1:
            _write_record(run, place, finished, trainer, metrics.get("reason"))
            return True
        if metrics["sound"]:
            place.checkpoint(run).mkdir(parents=True, exist_ok=True)
            write_whole(place.legs(run), json.dumps(finished))  # first: legs after the checkpoint are dropped on resume
            save(trainer, place.checkpoint(run))
        if time.time() >= stop_at:
            break
    return False


def warm_up_gan(run: Run, place: Place, stop_at: float = math.inf) -> bool:
    """Make the GAN that all runs on the same images begin with, unless it is there.

    Args:
        run: any of those runs.
        place: of the cache.
        stop_at: seconds since the epoch; not begun after it, but then carried to its end.

    Returns:
        Whether it is there.
    """
    if time.time() >= stop_at:
        return False
    _limit_threads(run.config)
    device = _device()
    try:
        cached_gan(
            run.config, _unlabelled(run.config.data, device), place.gans, device, _share_writer(place.warm_up(run))
        )
    finally:
        place.warm_up(run).unlink(missing_ok=True)
    return True


def _share_writer(file: Path) -> ShowProgress:
    """Writes the share that is done to a file, every now and then: who shows it is another process."""
    file.parent.mkdir(parents=True, exist_ok=True)
    due = 0.0

    def write(done_images: int, total_images: int, statistics: Statistics) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + SHARE_SECONDS
            write_whole(file, json.dumps(done_images / max(1, total_images)))

    return write


def _trainer(run: Run, place: Place) -> Trainer:
    _limit_threads(run.config)
    device = _device()
    images = _unlabelled(run.config.data, device)
    gan = None if run.config.is_real_only else cached_gan(run.config, images, place.gans, device, progress=False)
    return Trainer(run.config, images, gan, device)


def _resume(trainer: Trainer, run: Run, place: Place) -> list[Leg]:
    """Continue from the run's checkpoint, if it has one; the legs that led there."""
    if not (place.checkpoint(run) / checkpoint.FILE).is_file():
        return []
    load(trainer, place.checkpoint(run))
    written: list[Leg] = json.loads(place.legs(run).read_text())
    return [leg for leg in written if leg["images"] <= trainer.images_seen]


def _leg(metrics: Metrics) -> Leg:
    history = metrics["history"]
    return {
        "images": metrics["images"],
        "seconds": {name: metrics[f"seconds/{name}"] for name in ("train", "evaluate") if f"seconds/{name}" in metrics},
        "metrics": {name: value for name, value in metrics.items() if is_metric(name)},
        "statistics": {name: value for name, value in history[-1].items() if name != "images"} if history else {},
    }


def _write_record(run: Run, place: Place, finished: list[Leg], trainer: Trainer, diverged: str | None) -> None:
    training, device = run.config.training, trainer.device
    record: Record = {
        "arm": run.arm,
        "images": run.images,
        "seed": run.seed,
        "steps": training.steps,
        "views_per_step": 2 * training.batch_images,
        "diverged": diverged,
        "rollbacks": trainer.rollbacks,
        "metrics": {} if diverged else finished[-1]["metrics"],
        "statistics": finished[-1]["statistics"],
        "rungs": [
            {
                "images_seen": leg["images"],
                "score": leg["metrics"]["score"],
                "rung_score": leg["metrics"].get("rung_score"),
                "statistics": leg["statistics"],
            }
            for leg in finished
            if "score" in leg["metrics"] and leg["statistics"]
        ],
        "seconds": {name: sum(leg["seconds"].get(name, 0.0) for leg in finished) for name in ("train", "evaluate")},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU",
        "versions": checkpoint.versions(),
        "digest": digest(run.config),
        "config": run.config.model_dump(mode="json"),
    }
    place.records.mkdir(parents=True, exist_ok=True)
    write_whole(place.record(run), json.dumps(record, indent=1) + "\n")
    shutil.rmtree(place.checkpoint(run), ignore_errors=True)


def _all_images(config: Config) -> Config:
    """Probes see every label whatever the run was pretrained on; one configuration lets runs share what is opened."""
    return config.with_overrides({"data.image_fraction": 1.0})


def _limit_threads(config: Config) -> None:
    torch.set_num_threads(max(1, int(config.compute.cpus_per_worker)))


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@lru_cache(maxsize=4)
def _unlabelled(config: DataConfig, device: torch.device) -> data.ImageSource:
    """The pretraining images, opened once per process."""
    return data.open_split(config, "unlabelled", device).images
