"""`synthcl.compare`: what `synthcl compare` does, from Python."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synthcl.comparison.begin import SEEDS, Asked, How, begin, planned
from synthcl.comparison.records import Place
from synthcl.config.schema import Config
from synthcl.face.result import Result
from synthcl.face.settings import Images, settings


def compare(
    images: Images | None = None,
    *,
    arms: str | Sequence[str] | None = None,
    counts: Sequence[int | str] | None = None,
    oracle: int | str | None = None,
    seeds: int = SEEDS,
    equal_time: bool = False,
    headroom: bool = False,
    labels: str | Path | None = None,
    preset: str | Path | Config | None = None,
    storage: str | Path | None = None,
    address: str | None = None,
    ray: bool = True,
    parallel: int = 1,
    minutes: float = math.inf,
    overrides: Mapping[str, Any] | None = None,
) -> Result:
    """Compare arms at equal steps over seeds and numbers of images; the same call again continues.

    Args:
        images: as of `synthcl.search`.
        arms: their names, or `name=FILE` with overrides of yours; None is each source alone, and all.
        counts: numbers of unlabelled images to train on, such as `[500, "all"]`; None is the preset's own.
        oracle: real-only also with so many, such as `"all"`.
        seeds: how many, at least 1; each has its own draw of images, labels and GAN.
        equal_time: then real-only for as long as `joint` took, too.
        headroom: real-only alone with n, 2n, 5n, 10n ... images: would more real images help at all?
        labels: as of `synthcl.search`.
        preset: as of `synthcl.search`.
        storage: a folder under which the run's folder is made; left out, `runs`.
        address: of a Ray cluster, as of `synthcl.search`.
        ray: whether the runs are tasks of Ray; else they are done in this process, or in `parallel` ones of this
            machine, for which a script needs `if __name__ == "__main__":`.
        parallel: processes at a time, without Ray.
        minutes: after which it stops cleanly; the same call goes on.
        overrides: as of `synthcl.search`.

    Returns:
        What is finished of the comparison.

    Raises:
        UserError: in one line, before anything is spent, what is wrong and what would be right; or when the minutes
            were over before a run was finished.

    Example:
        result = synthcl.compare("photos", labels="photos/labels.csv", arms=["real-only", "joint"], seeds=2, ray=False)
        result.leaderboard[["linear@100", "linear@100 difference", "n"]]
    """
    given = (None if counts is None else ",".join(map(str, counts)), None if oracle is None else str(oracle))
    asked = Asked(
        arms if arms is None or isinstance(arms, str) else ",".join(arms), *given, seeds, equal_time, headroom
    )
    how = How(ray, parallel, minutes)
    config = settings(images, labels, preset, storage, address, overrides)
    place = Place(config)
    begin(config, planned(config, asked), how, equal_time=equal_time)
    return Result(place.records, trust_code=True)
