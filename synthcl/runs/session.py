"""A run in one process, from wherever it is to its end: what it reports has been kept before anybody hears of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache

import torch

from synthcl.config.schema import Config
from synthcl.config.sections import DataConfig
from synthcl.core import distributed
from synthcl.core.device import use_threads
from synthcl.core.errors import Diverged, Leaving
from synthcl.core.report import Report
from synthcl.data import ImageSource, open_split, open_synthetic
from synthcl.evaluation import origin, panel, protocol
from synthcl.runs.checkpoint_store import adopt, keep, resume
from synthcl.runs.teachers import targets_of
from synthcl.training.loop import Evaluate, run_to_end
from synthcl.training.networks import GanState
from synthcl.training.trainer import Pause, Trainer, never


def trainer_of(
    config: Config, gan: GanState | Callable[[ImageSource], GanState] | None, device: torch.device
) -> Trainer:
    """A trainer on the unlabelled images of a configuration, with as many threads as its worker has CPUs.

    Args:
        config: the whole configuration.
        gan: the warmed-up GAN, or what gives it for these images; not every run needs one.
        device: where the networks live.
    """
    use_threads(config.compute.cpus_per_worker)
    images = unlabelled_images(config.data, device)
    folders = {name: open_synthetic(config.data, name, section, device) for name, section in config.folders_on.items()}
    targets = targets_of(config, images)
    state = None
    if config.needs_gan:
        state = gan(images) if callable(gan) else gan
    return Trainer(config, images, state, device, folders, targets)


def reports(
    trainer: Trainer,
    place: str,
    evaluate: Evaluate,
    pause: Pause = never,
    must_leave: Pause = never,
    parent: str | None = None,
) -> Iterator[Report]:
    """Continue a run from its last checkpoint and train it to its end, as one of its processes.

    The first process keeps the state with every report before it is yielded. So whatever dies in between, what was
    reported is kept, and what was kept is reported again.

    Args:
        trainer: new, of the run's configuration.
        place: folder or URI of the run's checkpoint.
        evaluate: scores the run at rungs.
        pause: asked at every logged point whether a checkpoint is due at once.
        must_leave: asked between two legs whether this process has to end.
        parent: folder or URI of the run that this one copies, if it has no checkpoint of its own.

    Yields:
        A report a leg; first that of the leg that led to the run's last checkpoint, if there is one, because it may
        never have been heard.

    Raises:
        Leaving: when some process must leave; the last checkpoint is that of the last report.
    """
    unheard = resume(trainer, place)
    if unheard is None and parent is not None and (unheard := adopt(trainer, parent)) and distributed.rank() == 0:
        keep(trainer, place, unheard)
    if unheard:
        yield replace(unheard, preempted=pause(), workers=distributed.world_size())
        if unheard.ended:
            return
    _require_to_stay(trainer, must_leave)
    for report in run_to_end(trainer, evaluate, pause):
        if report.resumable and distributed.rank() == 0:  # else the last good state stays
            keep(trainer, place, report)
        yield replace(report, preempted=pause())
        if not report.ended:
            _require_to_stay(trainer, must_leave)


def _require_to_stay(trainer: Trainer, must_leave: Pause) -> None:
    if distributed.anywhere(must_leave(), trainer.device):
        raise Leaving("told to leave; the run goes on from its checkpoint")


@lru_cache(maxsize=4)
def unlabelled_images(config: DataConfig, device: torch.device) -> ImageSource:
    """The pretraining images, opened once per process."""
    return open_split(config, "unlabelled", device).images


def evaluation(config: Config, test: bool) -> Evaluate:
    """How a run is scored, by the first process: on validation at every rung; with `test`, also on test at the last."""

    def measure(trainer: Trainer, final: bool) -> dict[str, float]:
        encoder, device = trainer.networks.encoder, trainer.device
        metrics = protocol.score(encoder, config, device, quick=not final, test=final and test, early=final)
        trainer.health.judge_features(metrics)
        metrics |= panel.measure(encoder, trainer.networks.projector, config, device)
        metrics |= origin.measure(encoder, config, device, trainer.synthetic_images)
        if not protocol.is_scored(config):
            return metrics
        scores = {"score": protocol.objective(metrics, config), "rung_score": protocol.rung_score(metrics, config)}
        return metrics | scores

    def evaluate(trainer: Trainer, final: bool) -> dict[str, float]:
        scores: dict[str, float] = {}
        diverged = None
        if distributed.rank() == 0:
            try:
                scores = measure(trainer, final)
            except Diverged as error:
                diverged = error
        if distributed.anywhere(diverged is not None, trainer.device):  # all processes end here, or none
            raise diverged or Diverged("the encoder's features are of no use")
        return scores

    return evaluate
