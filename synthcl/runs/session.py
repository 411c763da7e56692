"""What is measured when a run reaches a rung."""

from __future__ import annotations

from synthcl.config.schema import Config
from synthcl.core import distributed
from synthcl.core.errors import Diverged
from synthcl.evaluation import protocol
from synthcl.training.loop import Evaluate
from synthcl.training.trainer import Metrics, Trainer


def evaluation(config: Config, test: bool) -> Evaluate:
    """How a run is scored, by the first process: on validation at every rung; with `test`, also on test at the last."""

    def measure(trainer: Trainer, final: bool) -> Metrics:
        encoder, device = trainer.networks.encoder, trainer.device
        metrics = protocol.score(encoder, config, device, quick=not final, test=final and test, early=final)
        trainer.health.judge_features(metrics)
        scores = {"score": protocol.objective(metrics, config), "rung_score": protocol.rung_score(metrics, config)}
        return metrics | scores

    def evaluate(trainer: Trainer, final: bool) -> Metrics:
        metrics, diverged = {}, None
        if distributed.rank() == 0:
            try:
                metrics = measure(trainer, final)
            except Diverged as error:
                diverged = error
        if distributed.anywhere(diverged is not None, trainer.device):  # all processes end here, or none
            raise diverged or Diverged("the encoder's features are of no use")
        return metrics

    return evaluate
