"""The runs of the mechanisms in their stages: strengths are chosen, and the factorial is trained."""

from __future__ import annotations

from collections.abc import Iterable

from synthcl.comparison.mechanisms import (
    FAMILIES,
    MECHANISMS,
    VIEW_STRENGTHS,
    arm_name,
    stage_1,
    stage_2,
    strengths_of,
    tried_arms,
)
from synthcl.comparison.records import Place, is_finished, read_all
from synthcl.comparison.staged import Stage
from synthcl.config.schema import Config


def stages(config: Config, chosen: Iterable[str], images: int, seeds: int) -> list[Stage]:
    """Both stages, as the records let them be known; what can be refused is refused here.

    Args:
        config: that arms change.
        chosen: names of `MECHANISMS`.
        images: unlabelled ones to train on.
        seeds: of stage 2.

    Returns:
        Arms of stage 2 whose strength is not chosen yet have the middle one until it is.

    Raises:
        UserError: as of `stage_1` and `stage_2`, or when a record is unusable.
    """
    names = list(chosen)
    place, first = Place(config), stage_1(config, names, images)
    left = {run.arm for run in first if not is_finished(run, place)}
    known = [name for name in names if not left & {*tried_arms(name)}]
    middle = {name: MECHANISMS[name].tried[1] for name in names}
    strengths = strengths_of(read_all(place.records, config), known, config) if known else {}
    unsure = {
        arm_name(family, name, v) for family in FAMILIES for name in names if name not in known for v in VIEW_STRENGTHS
    }
    return [
        Stage("stage 1, how strong", first),
        Stage(
            "stage 2, the factorial",
            stage_2(config, middle | strengths, images, seeds),
            frozenset(unsure),
            ", ".join(f"{name}: {MECHANISMS[name].strength}={value:g}" for name, value in strengths.items()),
        ),
    ]
