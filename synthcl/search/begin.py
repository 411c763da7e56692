"""A search as it is begun, from a command line and from Python alike."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.search.budget import describe
from synthcl.search.sides import Spaces, load_spaces


def options(
    *,
    budgets: str | None = None,
    hours: str | float | None = None,
    equal_time: bool = False,
    refit: str | None = None,
) -> tuple[dict[str, Any], float]:
    """What the options of a search stand for.

    Args:
        budgets: whole runs' images such as `12`; `+4` adds four to a finished search.
        hours: that the search may take.
        equal_time: then real-only for as long as the winner took, too.
        refit: `all` trains the winner again on every image there is.

    Returns:
        (overrides by dotted field, budgets that are added to a finished search).

    Raises:
        UserError: when budgets is no such number.
    """
    overrides: dict[str, Any] = {}
    added = 0.0
    if budgets is not None:
        count = budgets.removeprefix("+")
        if not re.fullmatch(r"\d+(\.\d+)?", count) or float(count) == 0:
            raise UserError(f"--budgets {budgets!r} is no number above 0; give 12, or +4 to add four")
        if budgets.startswith("+"):
            added = float(count)
        else:
            overrides["search.budgets"] = float(count)
    if hours is not None:
        overrides["search.hours"] = hours
    if equal_time:
        overrides["search.equal_time"] = True
    if refit is not None:
        overrides["search.refit"] = refit
    return overrides, added


def planned(config: Config) -> tuple[Spaces, str]:
    """What is searched, and the plan in words.

    Raises:
        UserError: as `load_spaces` and `require_trackers`.
    """
    spaces = load_spaces(config)
    if config.search.log_to:
        from synthcl.search.trackers import require_trackers  # Ray Tune, too

        require_trackers(config)
    return spaces, describe(config, spaces)


def begin(config: Config, *, added: float = 0, fresh: bool = False, preset: str = "") -> Path:
    """Print the plan and search; the same call again continues.

    Args:
        config: the configuration the search starts from.
        added: budgets to add to a finished search.
        fresh: forget an earlier search of this name.
        preset: that the configuration began with, which the study is described by.

    Returns:
        The run's folder.

    Raises:
        UserError: as `planned` and `run_search`.
    """
    from synthcl.search.stages import run_search  # Ray Tune takes seconds to import, and a dry run does without

    spaces, plan = planned(config)
    print(plan, flush=True)
    return run_search(config, spaces, fresh=fresh, extend=added, preset=preset)
