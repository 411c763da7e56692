"""The rest of a run in legs: a leg ends at a rung, or when a checkpoint is due.

for report in run_to_end(trainer, evaluate):
    ...                                  # keep the trainer's state and tell what it reports
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator

import torch

from synthcl.core import distributed
from synthcl.core.device import device_name
from synthcl.core.errors import Diverged
from synthcl.core.report import Point, Report
from synthcl.training.trainer import Pause, Trainer, never

Evaluate = Callable[[Trainer, bool], dict[str, float]]
"""(trainer, whether the budget is spent) -> scores, with a finite `score`, higher is better, where there are labels"""


def run_to_end(trainer: Trainer, evaluate: Evaluate, pause: Pause = never) -> Iterator[Report]:
    """Run the rest of the budget, stopping at every rung and whenever a checkpoint is due.

    Args:
        trainer: may have been resumed.
        evaluate: called at rungs.
        pause: a checkpoint is due when it says so, too.

    Yields:
        A report a leg. A run that fails says why, and ends; or it goes back to the last leg whose state is one to
        continue from, says so, and goes on from there.
    """
    training, health = trainer.config.training, trainer.config.health
    targets = sorted({max(1, round(rung * training.steps)) for rung in trainer.config.evaluation.rungs})
    may_go_back = health.on_failure == "rollback"
    good = _snapshot(trainer) if may_go_back else b""
    scoring = 0.0  # seconds at the last rung: a leg is short enough to be scored before its checkpoint is due
    while trainer.step < training.steps:
        target = next(step for step in targets if step > trainer.step)
        began, trained = time.monotonic(), None
        history: list[Point] = []
        scores: dict[str, float] = {}
        failure = rolled_back = None
        try:
            history = trainer.advance(target, _due(60 * training.checkpoint_minutes - scoring, pause))
            trainer.require_finite()
            trained = time.monotonic()
            if trainer.step == target:
                scores = evaluate(trainer, target == training.steps)
                scoring = time.monotonic() - trained
        except Diverged as diverged:
            history, scores = list(diverged.history) or history, {}
            if may_go_back and trainer.rollbacks < health.rollbacks:
                trainer.go_back(torch.load(io.BytesIO(good), weights_only=True))
                rolled_back = f"{diverged}; back to step {trainer.step} with rates times {trainer.rate:g}"
            else:
                failure, scores = str(diverged), {"score": 0.0}
        ended = time.monotonic()
        trainer.spent_seconds += ended - began
        trainer.scoring_seconds += ended - (trained or ended)
        suspect = may_go_back and trainer.health.suspect and trainer.step < training.steps
        report = Report(
            images=trainer.images_seen,
            progress=trainer.step / training.steps,
            seconds=trainer.spent_seconds,
            scoring_seconds=trainer.scoring_seconds,
            history=history,
            scores=scores,
            failure=failure,
            rolled_back=rolled_back,
            resumable=failure is None and not suspect,
            rollbacks=trainer.rollbacks,
            workers=distributed.world_size(),
            device=device_name(trainer.device),
        )
        if report.resumable and may_go_back:
            good = _snapshot(trainer)
        yield report
        if report.ended:
            return


def _snapshot(trainer: Trainer) -> bytes:
    """The trainer's state in main memory."""
    buffer = io.BytesIO()
    torch.save(trainer.state_dict(), buffer)
    return buffer.getvalue()


def _due(seconds: float, pause: Pause) -> Pause:
    deadline = time.monotonic() + seconds
    return lambda: time.monotonic() >= deadline or pause()
