"""The schedules of a few configurations over progress, as numbers to draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from synthcl.config.schema import Config
from synthcl.search.settings import reads

Value = Callable[[Config, float], float]


def schedule_curves(configs: Mapping[str, Config], beside: Mapping[str, Config]) -> dict[str, tuple[str, Value]]:
    """What moves, by its name for people: the dotted field, and its value of a configuration at a progress.

    A schedule of a single plug-in, such as a loss's temperature, is among them where it moves in one of them. The value
    is NaN of a run without the plug-in.

    Args:
        configs: what none of them reads is left out.
        beside: more of them, to compare with.

    Returns:
        With the learning rate last, which every run reads.
    """
    curricula: dict[str, tuple[str, Value]] = {
        "hardness": ("hardness", lambda config, p: config.curriculum.hardness.value_at(p)),
        "pair half-life, kimg": (
            "pair_half_life_kimg",
            lambda config, p: config.curriculum.pair_half_life_kimg.value_at(p),
        ),
        "synthetic fraction": ("synthetic_fraction", lambda config, p: config.knobs_at(p).synthetic_fraction),
        "view strength": ("view_strength", lambda config, p: config.curriculum.view_strength.value_at(p)),
    }
    found = {
        title: (f"curriculum.{field}", value)
        for title, (field, value) in curricula.items()
        if any(reads(config, f"curriculum.{field}") for config in configs.values())
    }
    everyone = [*configs.values(), *beside.values()]
    moving = {path for config in everyone for path in config.ramps_of_plugins if reads(config, path)}
    for path in sorted(moving):
        if any(path in config.schedules_of_plugins and reads(config, path) for config in configs.values()):
            found[path.partition(".")[2].replace(".", " ").replace("_", " ")] = path, partial(_of_plugin, path)
    found["learning rate"] = ("training.learning_rate", lambda config, p: config.knobs_at(p).learning_rate)
    return found


def _of_plugin(path: str, config: Config, progress: float) -> float:
    schedule = config.schedules_of_plugins.get(path)
    return schedule.value_at(progress) if schedule else float("nan")
