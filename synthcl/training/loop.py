"""The rest of a run in legs: a leg ends at a rung, or when a checkpoint is due.

for report in legs(trainer, evaluate):
    ...                                  # keep the trainer's state and tell what it reports
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator

import torch

from synthcl.core.errors import Diverged
from synthcl.training.trainer import Metrics, Pause, Trainer, never

Evaluate = Callable[[Trainer, bool], Metrics]
"""(trainer, whether the budget is spent) -> metrics that include a finite `score`, higher is better"""


def run_to_end(trainer: Trainer, evaluate: Evaluate, pause: Pause = never) -> Iterator[Metrics]:
    """Run the rest of the budget, stopping at every rung and whenever a checkpoint is due.

    Args:
        trainer: may have been resumed.
        evaluate: called at rungs.
        pause: a checkpoint is due when it says so, too.

    Yields:
        images, progress, seconds of all legs so far and history of the leg; at a rung also what `evaluate`
        measured; `sound`: whether the state is one to continue from. A run that fails yields `diverged: True`, a
        `score` of 0 and the `reason`, and ends; or it goes back to the last sound leg, yields `rolled_back`, the
        reason, and goes on from there.
    """
    training, health = trainer.config.training, trainer.config.health
    targets = sorted({max(1, round(rung * training.steps)) for rung in trainer.config.evaluation.rungs})
    may_go_back = health.on_failure == "rollback"
    good = _snapshot(trainer) if may_go_back else b""
    scoring = 0.0  # seconds at the last rung: a leg is short enough to be scored before its checkpoint is due
    while trainer.step < training.steps:
        target = next(step for step in targets if step > trainer.step)
        began = time.monotonic()
        metrics: Metrics = {"diverged": False}
        trained = None
        try:
            metrics["history"] = trainer.advance(target, _due(60 * training.checkpoint_minutes - scoring, pause))
            trainer.require_finite()
            trained = time.monotonic()
            if trainer.step == target:
                metrics |= evaluate(trainer, target == training.steps)
                scoring = time.monotonic() - trained
            metrics["seconds/evaluate"] = time.monotonic() - trained
        except Diverged as failure:
            metrics = {"diverged": False, "history": list(failure.history) or metrics.get("history", [])}
            if may_go_back and trainer.rollbacks < health.rollbacks:
                trainer.go_back(torch.load(io.BytesIO(good), weights_only=True))
                metrics["rolled_back"] = f"{failure}; back to step {trainer.step} with rates times {trainer.rate:g}"
            else:
                metrics |= {"diverged": True, "score": 0.0, "reason": str(failure)}
        metrics["seconds/train"] = (trained or time.monotonic()) - began
        trainer.spent_seconds += time.monotonic() - began
        metrics["seconds"] = trainer.spent_seconds
        ended = trainer.step == training.steps
        metrics["sound"] = not metrics["diverged"] and (ended or not (may_go_back and trainer.health.doubtful))
        if metrics["sound"] and may_go_back:
            good = _snapshot(trainer)
        yield {"images": trainer.images_seen, "progress": trainer.step / training.steps, **metrics}
        if metrics["diverged"]:
            return


def _snapshot(trainer: Trainer) -> bytes:
    """The trainer's state in main memory."""
    buffer = io.BytesIO()
    torch.save(trainer.state_dict(), buffer)
    return buffer.getvalue()


def _due(seconds: float, pause: Pause) -> Pause:
    deadline = time.monotonic() + seconds
    return lambda: time.monotonic() >= deadline or pause()
