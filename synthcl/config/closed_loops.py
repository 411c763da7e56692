"""Which schedules of a configuration are closed loops, and what a loop may steer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from synthcl.method.curriculum.knobs import CurriculumConfig
from synthcl.method.curriculum.loop import Loop
from synthcl.method.curriculum.schedule import Schedule


def closed_loops(curriculum: CurriculumConfig, of_plugins: Mapping[str, Schedule]) -> dict[str, Loop]:
    """Closed loops by the dotted field that each steers.

    Args:
        curriculum: the schedules that all plug-ins share.
        of_plugins: schedules of single plug-ins, by dotted field.
    """
    shared = {f"curriculum.{name}": schedule for name, schedule in curriculum}
    return {path: schedule for path, schedule in (shared | {**of_plugins}).items() if isinstance(schedule, Loop)}


def require_sound(loops: Mapping[str, Loop], terms: Collection[str]) -> None:
    """Refuse loops that could not do what they say.

    Args:
        loops: by the field that each steers.
        terms: names of the losses there are.

    Raises:
        ValueError: for one that reads a loss there is not, or where two read the same statistic.
    """
    for path, loop in loops.items():
        name = loop.measured.removeprefix("loss/")
        if name != loop.measured and name not in terms:
            raise ValueError(f"{path}.measured {loop.measured!r} is no loss of terms, which has {sorted(terms)}")
    for measured, number in Counter(loop.measured for loop in loops.values()).items():
        if number > 1:
            fields = " and ".join(path for path, loop in loops.items() if loop.measured == measured)
            raise ValueError(f"{fields} both look at {measured!r} and would fight; let one of them be a constant")
