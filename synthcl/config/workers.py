"""Whether the processes of a run can share its batch."""

from __future__ import annotations

from synthcl.config.sections import ComputeConfig


def require_shared_equally(batch_images: int, compute: ComputeConfig) -> None:
    """Refuse a batch that some number of processes could not share.

    Args:
        batch_images: images a step.
        compute: how many processes there are, and with how few a run goes on.

    Raises:
        ValueError: naming the fields.
    """
    workers = compute.workers_per_trial
    if batch_images % (2 * workers):
        raise ValueError(
            f"training.batch_images {batch_images} must be a multiple of {2 * workers}, "
            f"twice compute.workers_per_trial {workers}"
        )
    if workers % (compute.min_workers_per_trial or workers):
        raise ValueError(
            f"compute.min_workers_per_trial {compute.min_workers_per_trial} must divide "
            f"compute.workers_per_trial {workers}"
        )
