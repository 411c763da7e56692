"""TensorBoard logs of one run: scalars, sample grids, and the hyperparameters with what follows from them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from synthcl.config.compatibility import LEARNED, flat
from synthcl.config.schema import Config
from synthcl.core.report import Report


class RunLog:
    """Writes what a run reports, at the images it had seen.

    Args:
        folder: of this run's event files.
        config: the used configuration; its hyperparameters are written at once, before anything can go wrong.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        self._writer = SummaryWriter(str(folder))
        assert self._writer.file_writer is not None
        for summary in hparams(hyperparameters(config), {"score": 0}):
            self._writer.file_writer.add_summary(summary)

    def report(self, report: Report) -> None:
        """Write a leg's history and scores."""
        for point in report.history:
            for name, value in point.items():
                if name != "images":
                    self._writer.add_scalar(name, value, point["images"])
        for name, value in report.scores.items():
            self._writer.add_scalar(name, value, report.images)
        self._writer.flush()

    def samples(self, pixels: np.ndarray, images: int) -> None:
        """Write the grid of G(z) over G_ema(z), (h, w, 3) uint8."""
        self._writer.add_image("samples/G_over_G_ema", pixels, images, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


def decoded(png: bytes) -> np.ndarray:
    """The pixels of a PNG, (h, w, 3) uint8.

    Raises:
        OSError, SyntaxError: when it is cut short or none.
    """
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def hyperparameters(config: Config) -> dict[str, bool | int | float | str]:
    """The used values of a run, flat, with those that follow from them."""
    used = {
        path: value
        for path, value in flat(config.model_dump(mode="json", include={*LEARNED})).items()
        if isinstance(value, bool | int | float | str)
    }
    first, last = config.knobs_at(0.0), config.knobs_at(1.0)
    return used | {
        "derived.steps": config.training.steps,
        "derived.views_per_step": 2 * config.training.batch_images,
        "derived.pair_decay_first": first.pair_decay,
        "derived.pair_decay_last": last.pair_decay,
        "derived.hardness_last": last.hardness,
        "derived.synthetic_fraction_last": last.synthetic_fraction,
    }
