"""Overrides under which the whole path of any preset takes seconds on one CPU; networks and sizes stay its own."""

import re
from pathlib import Path

from synthcl.config.schema import Config

STEPS, BATCH_IMAGES = 2, 8
SCORED = re.compile(r"kimg +\d+%  +\d")
"""in the line of a run's score"""
_FEW_STEPS = {
    "data.image_fraction": 1.0,  # of the few images there are
    "synthetic.gan.warmup_kimg": 0.016,
    "synthetic.gan.warmup_batch_images": 8,
    "training.kimg": STEPS * BATCH_IMAGES / 1000,
    "training.batch_images": BATCH_IMAGES,
    "training.log_kimg": BATCH_IMAGES / 1000,
    "training.precision": "fp32",  # bf16 takes over twenty times as long on a CPU without instructions for it
    "health.feature_rank_min": 0,  # two steps on a few images of noise give features no rank
    "evaluation.max_label_images": "null",
    "evaluation.early_label_images": 100,
    "search.trials": 2,
    "search.confirm_top": 1,
    "search.confirm_seeds": 1,
}


def short_budget(config: Config, root: Path, storage: Path, *, whole: bool = True) -> dict[str, object]:
    """The overrides for a preset.

    Args:
        config: of the preset; trials of several workers become trials of one, whose start takes a quarter of the time
            (tests/cluster/test_cluster.py and test_autoscaling.py have trials of two).
        root: the folder of its data.
        storage: where runs go.
        whole: with a score half-way, fewer labels, transfer and an opponent: most of the time that a few steps take.
    """
    places = {"data.root": str(root), "compute.storage": str(storage)}
    transfer = list(config.evaluation.transfer[:1]) if whole else []
    scores = {
        "evaluation.rungs": [0.5, 1.0] if whole else [1.0],
        "evaluation.label_fractions": [1.0, 0.1] if whole else [1.0],  # of the few labels there are
        "evaluation.transfer": transfer,
        "search.budgets": 4 if whole else 2,
        "search.opponent_share": 0.5 if whole else 0,
    }
    return _FEW_STEPS | places | scores | {"compute.workers_per_trial": 1, "compute.cpus_per_worker": 1}
