"""Real images alone for as long as the configuration's own arm takes: more steps, in equal wall time.

At equal steps an arm with a generator takes longer. What real-only makes of that time is the other half of the
question.
"""

from __future__ import annotations

from collections.abc import Sequence

from synthcl.comparison.arms import EQUAL_TIME, OWN, REAL_ONLY
from synthcl.comparison.plan import Run
from synthcl.comparison.records import Place, Record, is_finished


def equal_time_runs(
    plan: Sequence[Run], place: Place, real: str = REAL_ONLY, own: str = OWN, name: str = EQUAL_TIME
) -> list[Run]:
    """Real images alone with the budget that takes as long as the own arm took, for every number of images and seed.

    The times are those of training, without scoring, summed over the seeds that both arms have finished; they hold
    where all runs were made on like machines. A budget that a record has is kept, so that seeds added later get the
    same.

    Args:
        plan: a comparison whose runs may be finished.
        place: of its records.
        real, own: arms of real images alone, and of that whose time they get.
        name: of the arm that is made.

    Returns:
        None of a number of images with which one of the arms has no finished run yet.
    """
    runs = []
    for images in sorted({run.images for run in plan}):
        of_real, of_own = (
            {run.seed: run for run in plan if (run.arm, run.images) == (arm, images)} for arm in (real, own)
        )
        kimg = _kept_budget(place, name, images) or _budget(of_real, of_own, place)
        for seed in sorted(of_real.keys() & of_own.keys()) if kimg else ():
            config = of_real[seed].config.with_overrides({"training.kimg": kimg})
            runs.append(Run(name, images, seed, config))
    return runs


def _kept_budget(place: Place, name: str, images: int) -> float | None:
    for file in sorted(place.records.glob(f"{name}-n{images}-seed*.json")):
        return float(Record.read(file, place.config).config["training"]["kimg"])
    return None


def _budget(real: dict[int, Run], own: dict[int, Run], place: Place) -> float | None:
    """Thousand images, to three digits."""
    both = [seed for seed in real if seed in own and all(is_finished(side[seed], place) for side in (real, own))]
    if not both:
        return None
    of_real, of_own = (
        sum(Record.read(place.record(side[seed]), place.config).seconds["train"] for seed in both)
        for side in (real, own)
    )
    return equal_time_kimg(real[both[0]].config.training.kimg, of_own, of_real)


def equal_time_kimg(kimg: float, own_seconds: float, real_seconds: float) -> float:
    """The budget with which real-only trains as long as another arm does.

    Args:
        kimg: of both, in thousand images.
        own_seconds, real_seconds: of training in wall time, without scoring, over the same seeds.

    Returns:
        Thousand images, to three digits.
    """
    return float(f"{kimg * own_seconds / real_seconds:.3g}")
