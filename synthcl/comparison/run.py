"""One run from its first step to its record, in as many sittings as it takes."""

from __future__ import annotations

import json
import math
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from synthcl.comparison.plan import Run
from synthcl.comparison.records import Place, Record
from synthcl.config.schema import Config
from synthcl.core.atomic import write_whole
from synthcl.core.device import use_threads
from synthcl.core.report import Report
from synthcl.runs.gan_cache import ShowProgress, cached_gan
from synthcl.runs.session import evaluation, reports, trainer_of, unlabelled_images
from synthcl.training.gan_warmup import Statistics

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
    device = _device()
    cached = partial(cached_gan, run.config, folder=place.gans, device=device, progress=False)
    trainer = trainer_of(run.config, cached, device)
    legs: list[dict[str, Any]] = json.loads(place.legs(run).read_text()) if place.legs(run).is_file() else []
    place.checkpoint(run).mkdir(parents=True, exist_ok=True)
    pause_at = time.monotonic() + stop_at - time.time()
    measure = evaluation(_all_images(run.config), test=True)
    for report in reports(trainer, str(place.checkpoint(run)), measure, lambda: time.monotonic() >= pause_at):
        told_again = any(leg["images"] == report.images for leg in legs)  # by this sitting, which has not begun yet
        leg = {"images": report.images, "metrics": report.scores, "statistics": report.statistics}
        legs = [*(earlier for earlier in legs if earlier["images"] < report.images), leg]
        if report.ended:
            _write_record(run, place, legs, report)
            return True
        if report.resumable:
            write_whole(place.legs(run), json.dumps(legs))
        if report.preempted and not told_again:
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
    use_threads(run.config.compute.cpus_per_worker)
    device = _device()
    images = unlabelled_images(run.config.data, device)
    try:
        cached_gan(run.config, images, place.gans, device, _share_writer(place.warm_up(run)))
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


def _write_record(run: Run, place: Place, legs: list[dict[str, Any]], report: Report) -> None:
    rungs = [
        {
            "images_seen": leg["images"],
            "score": leg["metrics"]["score"],
            "rung_score": leg["metrics"].get("rung_score"),
            "statistics": leg["statistics"],
        }
        for leg in legs
        if "score" in leg["metrics"] and leg["statistics"]
    ]
    Record.of(run.config, report, arm=run.arm, images=run.images, rungs=rungs).write(place.record(run))
    shutil.rmtree(place.checkpoint(run), ignore_errors=True)


def _all_images(config: Config) -> Config:
    """Probes see every label whatever the run was pretrained on; one configuration lets runs share what is opened."""
    return config.with_overrides({"data.image_fraction": 1.0})


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
