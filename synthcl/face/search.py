"""`synthcl.search`: what `synthcl search` does, from Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthcl.config.schema import Config
from synthcl.face.result import Result
from synthcl.face.settings import Images, settings
from synthcl.search.begin import begin, options


def search(
    images: Images | None = None,
    *,
    labels: str | Path | None = None,
    preset: str | Path | Config | None = None,
    hours: float | None = None,
    budgets: float | str | None = None,
    equal_time: bool = False,
    refit: str | None = None,
    storage: str | Path | None = None,
    address: str | None = None,
    fresh: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> Result:
    """Search for the curriculum that teaches best; the same call again continues, as the same command does.

    It is `synthcl search`: the same checks, plan, folder and report. A Dataset is written into the storage once, as
    files, so that every worker, a resumed search and the commands open the same images.

    Args:
        images: a folder, a list of paths (`.txt`), or a `torch.utils.data.Dataset` whose items are images (PIL, or
            tensors (C, H, W): uint8, or floats in [0, 1]) or (image, label); None are those of the preset.
        labels: of a folder or list: a CSV file with the columns path and label, or `none`. Left out, folders are
            classes. An item of a Dataset brings its own, a number or a name, or None where it has no label.
        preset: a name, a YAML file, or a `Config`; left out, `folder` with images and `fashion-mini` without.
        hours: that search and confirm runs may take; left out, budgets alone end the search.
        budgets: whole runs' images that it may spend, such as 12; "+4" adds four to a finished search.
        equal_time: then real images alone for as long as the best of the method took, too.
        refit: "all" trains the winner again on every image there is, for an encoder without a score.
        storage: folder or URI under which the run's folder is made; left out, `runs`.
        address: of a Ray cluster to join, such as `auto`; left out, Ray starts on this machine.
        fresh: forget an earlier search of this name.
        overrides: any field by its dotted name, such as `{"training.kimg": 500}`; `synthcl fields` lists them.

    Returns:
        The finished search.

    Raises:
        UserError: in one line, before anything is spent, what is wrong and what would be right.

    Example:
        result = synthcl.search("photos", labels="photos/labels.csv", hours=4, refit="all")
        print(result.verdict)
        result.leaderboard  # a DataFrame
        features = result.encoder(result.encoder.transform("photos/1.png"))
    """
    text = None if budgets is None else budgets if isinstance(budgets, str) else f"{budgets:g}"
    more, added = options(budgets=text, hours=hours, equal_time=equal_time, refit=refit)
    config = settings(images, labels, preset, storage, address, overrides, more)
    named = config.name if isinstance(preset, Config) else str(preset or config.name)
    return Result(begin(config, added=added, fresh=fresh, preset=named), trust_code=True)
