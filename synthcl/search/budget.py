"""What a search is going to spend, known before it spends it."""

from __future__ import annotations

import math
from pathlib import Path

from synthcl.comparison.arms import OWN, REAL_ONLY, baselines
from synthcl.config.schema import Config
from synthcl.runs.disk import checkpoint_bytes
from synthcl.runs.location import is_uri
from synthcl.search import pareto, population
from synthcl.search.lineage import knobs_of
from synthcl.search.sides import Spaces, budgets_of, members_of, rung_images
from synthcl.search.space import Space


def describe(config: Config, spaces: Spaces) -> str:
    """The plan of a search: runs, steps, images, views and disk, an upper bound where early stopping saves some.

    Where the configuration's own values lie outside the space, the plan names them.
    """
    training, search = config.training, config.search
    confirms = confirm_runs(config)
    whole = training.steps * training.batch_images
    how = {
        "random": "random",
        "population": f"a population of {members_of(config, search.budgets)}",
    }.get(search.algorithm, f"{search.algorithm} (one in {search.keeps_one_in:g})")
    how += ", by linear and transfer" if search.objective == "pareto" else ""
    checkpoint = checkpoint_bytes(config)
    storage = config.compute.storage
    place = storage if is_uri(storage) else str(Path(storage).expanduser().absolute())
    is_population = search.algorithm == "population"
    control = "one more of the method, " if is_population else ""
    by = " by halving" if is_population else ""
    most = "at most " if config.gan.warmup_passes_max else ""
    warm_up = (
        f"after a GAN warm-up of {most}{config.gan.warmup_kimg:g} kimg, and one for each fresh seed"
        if config.needs_gan
        else "without a GAN, so without a warm-up"
    )
    own, others = (len(space.dimensions) for space in (spaces.method, spaces.opponent))
    rows = {
        "search": f"{search.budgets:g} budgets of {whole / 1000:.1f} kimg over {own} dimensions by {how}, "
        f"rungs at {', '.join(f'{rung:.1%}' for rung in config.evaluation.rungs)}",
        "opponent": f"{search.opponent_share:.0%} of the budgets tune {REAL_ONLY} over {others} dimensions{by}",
        "confirm": f"{confirms} runs: {_chosen(config)} of each, {control}{OWN} and the baselines "
        f"({', '.join(baselines(config))}), {search.confirm_seeds} fresh seeds each",
        "equal time": f"then the best {REAL_ONLY} for as long as the best of the method took, "
        f"{search.confirm_seeds} runs",
        "refit": "then the winner again on every image there is, validation and test too: an encoder without a score",
        "a run": f"{training.steps} steps of {training.batch_images} images ({2 * training.batch_images} views), "
        f"{training.steps * training.batch_images / 1000:.1f} kimg",
        "images": f"at most {(search.budgets + confirms) * whole / 1000:.0f} kimg, {warm_up}",
        "disk": f"{(confirms + 1) * checkpoint / 2**20:.0f} MiB of checkpoints in the end "
        f"({checkpoint / 2**20:.1f} MiB each), and two for each run at a time",
        "storage": f"{place.rstrip('/')}/{config.name}",
    }
    space = spaces.method
    if is_population:
        rows |= _exchange(config, space)
    if not search.opponent_share:
        del rows["opponent"]
    if not search.equal_time:
        del rows["equal time"]
    if search.refit == "none":
        del rows["refit"]
    if outside := space.outside(config):
        fields = "; ".join(f"{field}={value} (space: {space.dimensions[field]})" for field, value in outside.items())
        rows["outside"] = f"{fields}; the first trial draws these fields at random, as your values are not in the space"
    return "\n".join(f"{name:<10} {row}" for name, row in rows.items())


def _exchange(config: Config, space: Space) -> dict[str, str]:
    """What a population changes, when, and what stays a member's own."""
    search, knobs = config.search, knobs_of(space, config)
    *between, whole = population.generations(rung_images(config))
    at = ", ".join(f"{rung / whole:.1%}" for rung in between)
    fixed = [
        path for path, dimension in space.dimensions.items() if path not in knobs and dimension.choices != ("constant",)
    ]
    return {
        "exchange": f"at {at} the worst {search.exploit:.0%} copy one of the best {search.exploit:.0%} "
        f"more than {2 * search.seed_deviation:g} points above",
        "changed": f"by copies: {', '.join(knobs)}",
        "kept": f"a member's own: {', '.join(fixed) or 'nothing'}",
    }


def confirm_runs(config: Config) -> int:
    """Runs of the confirm stage in equal steps at most: the best of method and opponent, the configuration's own and
    the baselines, each with every fresh seed; of a population one more, see `results.best_names`."""
    sides, more = 2 if config.search.opponent_share else 1, config.search.algorithm == "population"
    return (sides * config.search.confirm_top + more + len((OWN, *baselines(config)))) * config.search.confirm_seeds


def confirm_images(config: Config) -> tuple[float, float]:
    """Images of the confirm runs in equal steps: of the method, and of real images alone."""
    search, whole = config.search, rung_images(config)[-1]
    real = 1 + (search.confirm_top if search.opponent_share else 0)
    return (confirm_runs(config) - real * search.confirm_seeds) * whole, real * search.confirm_seeds * whole


def equal_time_images(config: Config) -> float:
    """Images of the method that take as long as the runs in equal time."""
    return config.search.equal_time * config.search.confirm_seeds * rung_images(config)[-1]


def refit_images(config: Config, at_a_time: int) -> dict[str, tuple[float, float]]:
    """Images of the stage in which the winner is trained again, as of the method, by its name; empty without one.

    Args:
        config: of the search.
        at_a_time: runs beside each other elsewhere; this one is alone, so that its images count as many times.
    """
    return {"refit": (float(at_a_time * rung_images(config)[-1]), 0.0)} if config.search.refit == "all" else {}


def following_runs(config: Config) -> int:
    """What follows the search, in the time of runs of the method: one in equal time takes that of one."""
    again = config.search.refit == "all"
    return confirm_runs(config) + config.search.equal_time * config.search.confirm_seeds + again


def _chosen(config: Config) -> str:
    """What is confirmed of method and opponent, in words."""
    top = config.search.confirm_top
    if config.search.objective != "pareto":
        return f"the best {top}"
    first = ", ".join([*pareto.ENDS, f"{pareto.KNEE} of the front"][:top])
    return first + (f" and the {top - 3} next" if top > 3 else "")


def kept_checkpoints(config: Config) -> int:
    """Checkpoints that may be on disk at a time: of paused runs, less the worse half, or of the confirm runs."""
    rungs = rung_images(config)
    share, per_run, before = 1.0, 0.0, 0
    for rung in rungs:
        per_run += share * (rung - before) / rungs[-1]
        share, before = share / config.search.keeps_one_in, rung
    search, members = config.search, 0.0
    halved = search.budgets if search.algorithm == "halving" else 0.0
    if search.algorithm == "population":  # beside its members those that copy them
        members = (1 + search.exploit) * members_of(config, search.budgets)
        halved = budgets_of(config, search.budgets)[1]
    return max(following_runs(config), math.ceil(members + halved / per_run / 2)) + 1
