"""Whether shares of real images and sources that a run decides, or a table names, suit the rest of a configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from synthcl.method.curriculum.bandit import Bandit, Shares
from synthcl.method.curriculum.mix import Mix, Share, mix_at
from synthcl.method.curriculum.mix_table import MixTable
from synthcl.method.curriculum.ramps import Constant
from synthcl.method.curriculum.schedule import Schedule

if TYPE_CHECKING:
    from synthcl.config.schema import Config


def mix_of(config: Config, progress: float, shares: Shares | None = None) -> Mix:
    """What a step is made of at this progress, over all workers.

    Args:
        config: its sources, their portions and what shares the views.
        progress: of the run.
        shares: that a bandit has decided, by arm; none are those that it begins with.
    """
    policy = None if config.is_real_only else config.curriculum.mix
    if policy is None:
        return mix_with(config, config.curriculum.synthetic_fraction, progress)
    shares = shares or policy.shares_at(progress) or first_shares(config)
    return mix_with(config, Constant(start=1 - shares["real"]), progress, shares)


def mix_with(config: Config, synthetic_fraction: Schedule, progress: float, portions: Shares | None = None) -> Mix:
    """The same with this share of synthetic views, and with other portions of the sources, by name."""
    return mix_at(
        synthetic_fraction,
        progress,
        batch_images=config.training.batch_images,
        views_per_image=config.training.views_per_image,
        sources={
            name: Share(one.views_per_group, portions[name] if portions else one.portion)
            for name, one in config.sources_on.items()
        },
        workers=config.compute.workers_per_trial,
        in_pairs=bool(config.mixers),
        apart=sum(term.apart for term in config.terms_on.values()),
    )


def first_shares(config: Config) -> Shares:
    """What a step begins with, by arm: real images, and each source that is on."""
    fraction = config.curriculum.synthetic_fraction.value_at(0.0)
    total = sum(source.portion for source in config.sources_on.values())
    return {"real": 1 - fraction} | {
        name: fraction * source.portion / total for name, source in config.sources_on.items()
    }


def extremes(config: Config) -> list[Mix]:
    """What a step is made of where a bandit gives one arm all but the floors of the others; none without one."""
    if (bandit := config.bandit) is None:
        return []
    arms = ["real", *config.sources_on]
    most = 1 - (len(arms) - 1) * bandit.floor
    return [config.mix_at(0.0, {arm: most if arm == best else bandit.floor for arm in arms}) for best in arms]


def require_mix_fits(config: Config) -> None:
    """Refuse a mix that the sources, the batch or a pool of latents cannot follow.

    Raises:
        ValueError: naming the field.
    """
    _require_whole_groups(config)
    policy = config.curriculum.mix
    if policy is None or config.is_real_only:
        return
    if not isinstance(config.curriculum.synthetic_fraction, Constant):
        raise ValueError(
            f"curriculum.mix of kind {policy.kind} decides the share of synthetic views, and "
            f"curriculum.synthetic_fraction is a schedule of kind {config.curriculum.synthetic_fraction.kind}; give a "
            "number, with which the run begins"
        )
    arms = {"real", *config.sources_on}
    if isinstance(policy, MixTable):
        for progress, shares in policy.points:
            if {*shares} != arms:
                raise ValueError(
                    f"curriculum.mix.points at progress {progress:g} names {sorted(shares)}; "
                    f"it needs a share of each of {sorted(arms)}"
                )
        mixes = [config.mix_at(progress) for progress, _ in policy.points]
        attached = [name for name, source in config.sources_on.items() if source.attached]
        if attached and min(mix.real for mix in mixes) < config.compute.workers_per_trial:
            raise ValueError(
                "curriculum.mix.points leave no real image in a step, and the images of "
                f"synthetic.{attached[0]} are views of real ones; raise the share of real"
            )
    else:
        _require_floor(config, policy, len(arms))
        mixes = extremes(config)
    pool, most = config.gan.pool, max(mix.latents for mix in mixes)
    if pool is not None and config.needs_gan and pool < most:
        raise ValueError(
            f"synthetic.gan.pool {pool} has fewer latents than the {most} that curriculum.mix may give a step; "
            f"raise it to {most} at least"
        )


def _require_whole_groups(config: Config) -> None:
    """Whether a step of any mix has the same number of views, in whole groups and equal numbers for every worker."""
    batch, workers = config.training.batch_images, config.compute.workers_per_trial
    sizes: dict[str, int] = {"training.views_per_image": config.training.views_per_image}
    sizes |= {f"synthetic.{name}": source.views_per_group for name, source in config.sources_on.items()}
    unit = math.lcm(*sizes.values()) * workers
    if 2 * batch % unit:
        granule = math.lcm(unit // math.gcd(unit, 2), 2 * workers)
        named = ", ".join(f"{size} of {place}" for place, size in sizes.items() if size > 1)
        raise ValueError(
            f"training.batch_images {batch} makes {2 * batch} views a step, which groups of {named} do not divide "
            f"equally among {workers} workers; use a multiple of {granule}, such as {-(-batch // granule) * granule}"
        )


def _require_floor(config: Config, bandit: Bandit, arms: int) -> None:
    if bandit.floor * arms >= 1:
        raise ValueError(f"curriculum.mix.floor {bandit.floor:g} of {arms} arms leaves nothing to decide; lower it")
    workers = config.compute.workers_per_trial
    for mix in extremes(config):
        numbers: Mapping[str, int] = {"real": mix.real // (2 * workers), **mix.groups}  # real images are halved
        for arm, number in numbers.items():
            if not number:
                raise ValueError(
                    f"curriculum.mix.floor {bandit.floor:g} of {2 * config.training.batch_images} views on {workers} "
                    f"workers rounds to too few of {arm} to be measured; raise it or training.batch_images"
                )
