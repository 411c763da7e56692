"""TensorBoard logs of one run: scalars with what they mean, sample grids, and the hyperparameters it is compared by."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams, scalar

from synthcl.config.compatibility import LEARNED, flat
from synthcl.config.schema import Config
from synthcl.core.report import Report
from synthcl.evaluation import names
from synthcl.runs.scalar_names import meaning

Value = bool | int | float | str


class RunLog:
    """Writes what a run reports, at the images it had seen.

    Args:
        folder: of this run's event files.
        used: hyperparameters by dotted field; they are written at once, before anything can go wrong.
        measured: names of the scores that runs are compared by.
    """

    def __init__(self, folder: Path, used: Mapping[str, Value], measured: Iterable[str] = ("score",)) -> None:
        self._writer = SummaryWriter(str(folder))
        self._explained: set[str] = set()
        for summary in hparams(dict(used), dict.fromkeys(measured, 0)):
            self._write(summary)

    def report(self, report: Report) -> None:
        """Write a leg's history and scores."""
        for point in report.history:
            for name, value in point.items():
                if name != "images":
                    self._scalar(name, value, int(point["images"]))
        for name, value in report.scores.items():
            self._scalar(name, value, report.images)
        self._writer.flush()

    def _scalar(self, name: str, value: float, images: int) -> None:
        """A point of a curve; TensorBoard reads a description at the first one."""
        summary = scalar(name, value)
        if name not in self._explained:
            self._explained.add(name)
            summary.value[0].metadata.summary_description = meaning(name)
        self._write(summary, images)

    def _write(self, summary: Any, images: int | None = None) -> None:
        assert self._writer.file_writer is not None
        self._writer.file_writer.add_summary(summary, images)

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


def hyperparameters(config: Config, base: Config, searched: Iterable[str] = ()) -> dict[str, Value]:
    """The values of a run that others may differ in, by dotted field.

    Args:
        config: of the run.
        base: that it is compared with; where both agree there is nothing to see.
        searched: fields that are shown in any case; one that names a schedule has its start.

    Example:
        >>> base = Config(name="mine")
        >>> hyperparameters(base.with_overrides({"training.seed": 1}), base, ["terms.contrast.temperature"])
        {'terms.contrast.temperature': 0.2, 'training.seed': 1}
    """
    own, others = (flat(each.model_dump(mode="json", include={*LEARNED})) for each in (config, base))
    named = {field: field if field in own else f"{field}.start" for field in searched}
    shown = {field: own[path] for field, path in named.items() if path in own}
    told = {*named.values(), *(f"{field}.kind" for field, path in named.items() if path != field)}
    shown |= {path: value for path, value in own.items() if path not in told and value != others.get(path)}
    return {field: value for field, value in shown.items() if isinstance(value, bool | int | float | str)}


def compared_scores(config: Config) -> list[str]:
    """Names of the scores that the runs of a search are compared by."""
    own = names.headline(config)
    return ["score", *(f"{split}/{name}" for split in ("val", "test") for name in (own, "transfer/mean"))]
