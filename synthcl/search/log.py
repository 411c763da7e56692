"""What a search shows while it runs: a line per rung, a progress bar, TensorBoard, and sample grids by progress."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from ray.tune import Callback
from ray.tune.experiment import Trial
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams
from tqdm import tqdm

from synthcl import checkpoint, curriculum
from synthcl.arms import BASELINES
from synthcl.config import Config
from synthcl.search.searcher import is_metric
from synthcl.search.trial import resolve
from synthcl.storage import Storage


class RunLog(Callback):
    """Follows the trials of one stage on the driver, so that nothing but results has to travel.

    Args:
        base: the configuration the trials' overrides change.
        storage: where TensorBoard logs and samples go.
        stage: 'search' or 'confirm', shown beside the bar.
        total: trials of the stage.
    """

    def __init__(self, base: Config, storage: Storage, stage: str, total: int) -> None:
        self.base, self.storage, self.stage, self.total = base, storage, stage, total
        self._best = (float("-inf"), "")
        self._writers: dict[str, SummaryWriter] = {}
        self._bar: tqdm | None = None

    def setup(self, stop: Any = None, num_samples: Any = None, total_num_samples: Any = None, **info: Any) -> None:
        self._bar = tqdm(total=self.total, desc=self.stage, unit="run", dynamic_ncols=True)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        if trial.trial_id not in self._writers:
            writer = SummaryWriter(str(self.storage.folder / "tensorboard" / label(trial)))
            for summary in hparams(hyperparameters(self.base, trial.config), {"score": 0}):
                assert writer.file_writer is not None
                writer.file_writer.add_summary(summary)
            self._writers[trial.trial_id] = writer

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        writer = self._writers[trial.trial_id]
        for point in result.get("history", []):
            for name, value in point.items():
                if name != "images":
                    writer.add_scalar(name, value, point["images"])
        for name, value in result.items():
            if is_metric(name):
                writer.add_scalar(name, value, result["images"])
        writer.flush()
        if "score" in result:
            if self.stage == "search" and label(trial) not in BASELINES:
                self._best = max(self._best, (result["score"], label(trial)))
            state = f"diverged: {result['reason']}" if result["diverged"] else f"{result['score']:6.2f}"
            self._say(f"{label(trial):<22}{result['images'] / 1000:8.1f} kimg {result['progress']:5.0%}  {state}")

    def on_checkpoint(
        self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Any, **info: Any
    ) -> None:
        png = read_samples(checkpoint)
        if png is None or trial.last_result is None:
            return
        images = trial.last_result.get("images", 0)
        target = self.storage.folder / "samples" / label(trial) / f"{images:012d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(png)
        if trial.trial_id in self._writers:
            pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
            self._writers[trial.trial_id].add_image("samples/G_over_G_ema", pixels, images, dataformats="HWC")

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        last = trial.last_result or {}
        if not last.get("diverged") and last.get("progress", 1) < 1:
            self._say(f"{label(trial):<22}{'':14} stopped early")
        self._finish(trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._say(f"{label(trial):<22}{'':14} failed; see {trial.error_file}")
        self._finish(trial)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        if self._bar is not None:
            self._bar.close()

    def _finish(self, trial: Trial) -> None:
        if writer := self._writers.pop(trial.trial_id, None):
            writer.close()
        if self._bar is not None:
            self._bar.update()
            if self._best[1]:
                self._bar.set_postfix_str(f"best {self._best[0]:.2f} ({self._best[1]})")
        self.storage.push()

    @staticmethod
    def _say(line: str) -> None:
        tqdm.write(line)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_writers": {}, "_bar": None}  # open files do not travel


def label(trial: Trial) -> str:
    """The run's name in every list, folder and figure."""
    return str(trial.config.get("run", trial.config)["label"])


def hyperparameters(base: Config, trial_config: dict[str, Any]) -> dict[str, bool | int | float | str]:
    """The used values of one trial, flat, with those that follow from them."""
    config = resolve(base, trial_config)
    flat: dict[str, bool | int | float | str] = {}

    def walk(prefix: str, node: Any) -> None:
        if isinstance(node, dict):
            for name, value in node.items():
                walk(f"{prefix}.{name}" if prefix else name, value)
        elif isinstance(node, (bool, int, float, str)):
            flat[prefix] = node

    tree = config.model_dump(mode="json")
    for section in ("curriculum", "method", "gan", "training", "views"):
        walk(section, tree[section])
    first, last = curriculum.knobs(config, 0.0), curriculum.knobs(config, 1.0)
    return flat | {
        "derived.steps": config.training.steps,
        "derived.views_per_step": 2 * config.training.batch_images,
        "derived.pair_decay_first": first.pair_decay,
        "derived.pair_decay_last": last.pair_decay,
        "derived.hardness_last": last.hardness,
        "derived.synthetic_fraction_last": last.synthetic_fraction,
    }


def read_samples(saved: Any) -> bytes | None:
    """The PNG of a Ray checkpoint, read through its own file system; None in a real-only run."""
    try:
        with saved.filesystem.open_input_file(str(Path(saved.path) / checkpoint.SAMPLES)) as stream:
            return bytes(stream.read())
    except FileNotFoundError:
        return None
