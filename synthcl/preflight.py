"""What can be found wrong with data before a cluster is joined or a GPU minute is spent."""

from __future__ import annotations

from synthcl.arms import apply_arm
from synthcl.config import Config
from synthcl.data import ImageSource, open_split, open_transfer
from synthcl.training import require_enough_images


def open_data(config: Config) -> ImageSource:
    """Open everything a run reads, test splits aside.

    Args:
        config: its data, and the data sets its evaluation transfers to.

    Returns:
        The unlabelled images, on the CPU.

    Raises:
        UserError: on missing or broken data, missing labels, or fewer images than a real-only step needs.
    """
    images = open_split(config.data, "unlabelled", "cpu").images
    require_enough_images(apply_arm(config, "real-only"), len(images))
    for split in ("train", "validation"):
        open_split(config.data, split, "cpu")
        for target in config.evaluation.transfer:
            open_transfer(target, config.data, split, "cpu")
    return images
