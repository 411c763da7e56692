"""Whether a finished search is what an unbroken one would have been."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from optuna.trial import FrozenTrial, TrialState

from synthcl.comparison import arms
from synthcl.comparison.records import Record
from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.data import open_split
from synthcl.runs import checkpoint
from synthcl.runs.gan_cache import cached_gan
from synthcl.runs.session import evaluation
from synthcl.search.sides import rung_images
from synthcl.search.study import changed_by, load_study
from synthcl.training.loop import run_to_end
from synthcl.training.trainer import Trainer

CPU = torch.device("cpu")


def study_problems(folder: Path, config: Config) -> dict[str, int]:
    """What is wrong with the studies of a finished search.

    Args:
        folder: of the run.
        config: it was begun with.

    Returns:
        lost: runs that failed, and whole runs that are missing to what was to be confirmed; orphans: legs that were
        begun and are not over; repeated: configurations proposed twice; overspent: whole runs beyond the budget.
    """
    found = load_study(folder / "study.journal").trials
    points = [json.dumps([trial.params, trial.user_attrs.get("arm")], sort_keys=True) for trial in found]
    running = [trial for trial in found if trial.state is TrialState.RUNNING]
    whole = rung_images(config)[-1]
    missing = 0
    for opponent in (False, True)[: 2 if config.search.opponent_share else 1]:
        side = [trial for trial in found if ("arm" in trial.user_attrs) == opponent]
        complete = sum(trial.state is TrialState.COMPLETE and trial.number > 0 for trial in side)
        missing += max(0, config.search.confirm_top - complete)
    spent = sum(max(0, trial.user_attrs.get("images", 0) - trial.user_attrs.get("inherited", 0)) for trial in found)
    return {
        "lost": missing + sum(trial.state is TrialState.FAIL for trial in found),
        "orphans": sum(trial.user_attrs["until"] not in trial.intermediate_values for trial in running),
        "repeated": len(points) - len(set(points)),
        "overspent": max(0, -int(-(spent - config.search.budgets * whole) // whole)),
    }


def half_written(folder: Path) -> int:
    """Checkpoints and records of a run that cannot be read as they lie there."""
    broken = 0
    for file in folder.rglob("checkpoint.pt"):
        try:
            checkpoint.load(file, CPU)
        except UserError:
            broken += 1
    for file in [*folder.glob("*.json"), *folder.glob("confirm/*.json")]:
        try:
            json.loads(file.read_text())
        except ValueError:
            broken += 1
    return broken


def unequal(folder: Path, base: Config) -> int:
    """Single-worker trials and confirm runs whose scores or weights differ in any bit from those of an unbroken run."""
    found = load_study(folder / "study.journal").trials
    differing = [trial.user_attrs["label"] for trial in found if not _equals_unbroken(folder, base, trial)]
    for file in (folder / "confirm").glob("*.json"):
        record = Record.read(file, base)
        config = base.with_overrides(record.overrides)
        scores, weights = unbroken(config, record.images_seen, folder.parent / "gan", test=True)
        same_score = record.metrics["score"] == scores[record.images_seen]
        if not (same_score and _same_weights(folder / record.checkpoint, weights)):
            differing.append(file.stem)
    return len(differing)


def _equals_unbroken(folder: Path, base: Config, trial: FrozenTrial) -> bool:
    config = base.with_overrides(changed_by(trial) | arms.ARMS[trial.user_attrs.get("arm", arms.OWN)])
    scores, weights = unbroken(config, max(trial.intermediate_values), folder.parent / "gan")
    inherited = trial.user_attrs.get("inherited", 0)  # a copy has no scores of its parent's earlier rungs
    if trial.intermediate_values != {images: score for images, score in scores.items() if images >= inherited}:
        return False
    if "diverged" in trial.user_attrs:
        return True  # what it keeps is the last good state before
    return all(_same_weights(stage / trial.user_attrs["label"], weights) for stage in folder.glob("search-*"))


def unbroken(
    config: Config, images: int, gans: Path, test: bool = False
) -> tuple[dict[int, float], dict[str, torch.Tensor]]:
    """Train in this process as far as a trial got.

    Args:
        config: of the trial.
        images: where it ended.
        gans: folder of warmed-up GANs.
        test: whether the last rung reads the test split, too.

    Returns:
        Scores by images, and the encoder's weights there.
    """
    source = open_split(config.data, "unlabelled", CPU).images
    gan = None if config.is_real_only else cached_gan(config, source, gans, CPU, progress=False)
    trainer, scores = Trainer(config, source, gan, CPU), {}
    for report in run_to_end(trainer, evaluation(config, test)):
        if report.score is not None:
            scores[report.images] = report.score
        if report.images >= images:
            break
    return scores, trainer.networks.encoder.state_dict()


def _same_weights(place: Path, expected: dict[str, torch.Tensor]) -> bool:
    if not (place / checkpoint.FILE).is_file():
        return True  # a loser's, deleted
    kept = checkpoint.load(place, CPU)["trainer"]["networks"]["encoder"]
    return all(torch.equal(kept[name], weight) for name, weight in expected.items())
