"""Pretrained networks that are not trained here, scored frozen by the probes and splits of the runs beside them.

An image that lies in a file is read anew at `evaluation.reference_image_size`, as one who takes such a network would.
Of a data set that is one array, what the runs see is enlarged. Grey images are shown as three equal colours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthcl.comparison.records import Record, digest, read_all
from synthcl.config.schema import Config
from synthcl.core.device import device_name, use_threads
from synthcl.core.errors import named
from synthcl.data.splits import lies_in_files
from synthcl.evaluation import protocol
from synthcl.runs import checkpoint
from synthcl.runs.encoder_check import REFERENCE_CHANNELS

FOLDER = "references"
"""of their records, beside those of runs"""
NOT_TRAINED = "not trained here"
EXPLAINED = (
    f"Rows that are '{NOT_TRAINED}' are pretrained networks, frozen: the same probes, splits and seeds, and images at "
    "evaluation.reference_image_size. They are in no verdict."
)
_STREAMED_MIB = 1e-6
"""no images of that size are kept in memory"""

Score = Callable[[], Record]


class Enlarged(nn.Module):
    """A network that is shown images at another size than it is given.

    Args:
        network: images (n, C, size, size) -> features (n, feature_dim).
        size: pixels a side.
    """

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, C, S, S) in [-1, 1]."""
        if images.shape[-1] != self.size:
            images = F.interpolate(images, size=(self.size, self.size), mode="bilinear", antialias=True).clamp(-1, 1)
        return self.network(images)


def of_seed(config: Config, name: str, seed: int) -> Config:
    """The configuration that a reference is scored under, with the splits of a seed's runs.

    Args:
        config: of the comparison or the search.
        name: of `evaluation.references`.
        seed: of runs, which decides cuts and labels.
    """
    section, size = config.evaluation.references[name], config.evaluation.reference_image_size
    overrides: dict[str, Any] = {
        "encoder": section.model_dump(mode="json"),
        "data.channels": REFERENCE_CHANNELS,
        "data.split_seed": seed,
        "training.seed": seed,
    }
    if lies_in_files(config.data):
        overrides |= {"data.image_size": size, "views.base.size": None, "data.resident_limit_mib": _STREAMED_MIB}
    return config.with_overrides(overrides)


def left(config: Config, seeds: Iterable[int], folder: Path) -> list[tuple[str, int]]:
    """Names and seeds without a record that was made as the configuration says."""
    return [
        (name, seed)
        for name in config.evaluation.references
        for seed in seeds
        if not _is_scored(_file(folder, name, seed), of_seed(config, name, seed))
    ]


def score_left(
    config: Config,
    seeds: Iterable[int],
    folder: Path,
    pool: Callable[[list[Any]], Iterator[Any]],
    say: Callable[[str], None],
) -> None:
    """Score what is left and write a record of each.

    Args:
        config: of the comparison or the search.
        seeds: of its runs.
        folder: of the records, made if missing.
        pool: where it happens, as of `comparison.execute`; it yields what the jobs return.
        say: is told a line for each.

    Raises:
        UserError: when weights cannot be read or fetched, or do not fit.
    """
    jobs = [cast(Score, partial(score, config, name, seed)) for name, seed in left(config, seeds, folder)]
    for record in pool(jobs):
        record.write(_file(folder, record.arm, record.seed))
        scored = f", score {record.metrics['score']:.2f} on validation" if "score" in record.metrics else ""
        say(f"reference {record.arm}, seed {record.seed}: {record.seconds['evaluate']:.0f} s{scored}")


def score(config: Config, name: str, seed: int) -> Record:
    """Score one reference with one seed's splits, test included.

    Args:
        config: of the comparison or the search.
        name: of `evaluation.references`.
        seed: of runs.

    Raises:
        UserError: as of `score_left`.
    """
    use_threads(config.compute.cpus_per_worker)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    own, began = of_seed(config, name, seed), time.monotonic()
    with named(f"evaluation.references.{name}"):
        network = own.encoder.begin(REFERENCE_CHANNELS, config.evaluation.reference_image_size)
    encoder = Enlarged(network, config.evaluation.reference_image_size).to(device).eval()
    metrics = protocol.score(encoder, own, device, quick=False, test=True)
    if protocol.is_scored(own):
        metrics["score"] = protocol.objective(metrics, own)
    return Record(
        arm=name,
        images=0,
        seed=seed,
        steps=0,
        views_per_step=0,
        metrics=metrics,
        seconds={"train": 0.0, "evaluate": time.monotonic() - began},
        device=device_name(device),
        versions=checkpoint.versions(),
        digest=digest(own),
        config=own.model_dump(mode="json"),
    )


def read(folder: Path, config: Config) -> list[Record]:
    """The records of the references that the configuration names.

    Raises:
        UserError: when one is unreadable.
    """
    found = read_all(folder, config)
    return [
        record
        for record in found
        if record.arm in config.evaluation.references
        and record.digest == digest(of_seed(config, record.arm, record.seed))
    ]


def _is_scored(file: Path, own: Config) -> bool:
    return file.is_file() and Record.read(file, own).digest == digest(own)


def _file(folder: Path, name: str, seed: int) -> Path:
    return folder / f"{name}-seed{seed}.json"
