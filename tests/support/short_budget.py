"""Overrides under which the whole path of any preset takes seconds on one CPU; networks and sizes stay its own."""

from pathlib import Path

STEPS, BATCH_IMAGES = 2, 8
_FEW_STEPS = {
    "data.image_fraction": 1.0,  # of the few images there are
    "synthetic.gan.warmup_kimg": 0.016,
    "synthetic.gan.warmup_batch_images": 8,
    "training.kimg": STEPS * BATCH_IMAGES / 1000,
    "training.batch_images": BATCH_IMAGES,
    "training.log_kimg": BATCH_IMAGES / 1000,
    "training.precision": "fp32",  # bf16 takes over twenty times as long on a CPU without instructions for it
    "health.feature_rank_min": 0,  # two steps on a few images of noise give features no rank
    "evaluation.rungs": [1.0],
    "evaluation.label_fractions": [1.0],  # of the few labels there are
    "evaluation.max_label_images": "null",
    "evaluation.early_label_images": 100,
    "evaluation.transfer": [],  # scores take most of the time of a few steps
    "search.budgets": 2,
    "search.trials": 2,
    "search.opponent_share": 0,
    "search.confirm_top": 1,
    "search.confirm_seeds": 1,
    # workers start slowly; tests/cluster/test_cluster.py and test_autoscaling.py have trials of two
    "compute.workers_per_trial": 1,
    "compute.cpus_per_worker": 1,
}


def short_budget(root: Path, storage: Path) -> dict[str, object]:
    """The overrides for a preset whose data lie below `root`, and whose runs go to `storage`."""
    return _FEW_STEPS | {"data.root": str(root), "compute.storage": str(storage)}
