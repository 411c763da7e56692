"""Does the generator's gain add to that of a mechanism, or does one replace the other? What is trained to tell.

Stage 1 chooses how strong each mechanism is: on validation, on real images alone under weak views, with seeds of its
own. Stage 2 is a factorial with those strengths fixed: real images alone and with the generator, with nothing and with
each mechanism, under weak and under full views, on fresh seeds. All runs have equal steps and equal views.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import mean
from typing import Any

from synthcl.comparison.arms import OWN, REAL_ONLY, arm_overrides
from synthcl.comparison.plan import Arms, Run, plan
from synthcl.comparison.records import Record
from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.evaluation import names

PRESET, IMAGES, FIRST_SEED = "cifar10-weak-views", "1000", 4000
"""what is asked about unless something else is given; the seeds are those of RESULTS.md"""
VIEW_STRENGTHS = (0.3, 1.0)
CHOOSING_SEEDS, CHOOSING_OFFSET = 2, 500
"""seeds of stage 1, and how far they lie from the first of stage 2"""
FAMILIES = (REAL_ONLY, OWN)


@dataclass(frozen=True)
class Mechanism:
    """An idea that may be switched on beside the contrastive loss."""

    members: Mapping[str, Any]
    """overrides that add it"""
    strength: str
    """the dotted field that says how strong it is"""
    tried: tuple[float, ...]
    """its values in stage 1, from weak to strong"""

    def overrides(self, strength: float) -> dict[str, Any]:
        return {**self.members, self.strength: strength}


_SHARES, _WEIGHTS = (0.25, 0.5, 1.0), (0.005, 0.02, 0.1)


def _mixer(kind: str, **members: Any) -> Mechanism:
    return Mechanism({"views.mix.kind": kind, **members}, "views.mix.share", _SHARES)


def _regulariser(kind: str) -> Mechanism:
    return Mechanism({"terms.spread.kind": kind}, "terms.spread.weight", _WEIGHTS)


MECHANISMS: dict[str, Mechanism] = {
    "mixup": _mixer("mixup"),
    "imix": _mixer("mixup", **{"views.mix.sides": "one"}),
    "cutmix": _mixer("cutmix"),
    "resizemix": _mixer("resizemix"),
    "resizemix-decoupled": _mixer("resizemix", **{"terms.apart.kind": "decoupled"}),
    "vicreg": _regulariser("vicreg"),
    "barlow": _regulariser("barlow"),
}


def read_mechanisms(text: str | None) -> list[str]:
    """Names from a list such as `mixup,vicreg`; all where there is none.

    Raises:
        UserError: on an unknown name.
    """
    if text is None:
        return list(MECHANISMS)
    chosen = list(dict.fromkeys(text.split(",")))
    for name in chosen:
        if name not in MECHANISMS:
            raise UserError(f"--only {text!r}: mechanism {name!r} is unknown; choose {', '.join(MECHANISMS)}")
    return chosen


def arm_name(family: str, mechanism: str | None, view_strength: float, strength: float | None = None) -> str:
    """What an arm of the factorial is called, or with a strength one of stage 1.

    Example:
        >>> arm_name("joint", "mixup", 1.0), arm_name("joint", None, 0.3), arm_name("real-only", "vicreg", 0.3, 0.02)
        ('joint+mixup@1', 'joint@0.3', 'real-only+vicreg=0.02@0.3')
    """
    tried = "" if strength is None else f"={strength:g}"
    return f"{family}{f'+{mechanism}' if mechanism else ''}{tried}@{view_strength:g}"


def stage_1(base: Config, chosen: Iterable[str], count: int) -> list[Run]:
    """The runs that choose strengths: three of each mechanism on real images alone under weak views, two seeds.

    Args:
        base: the configuration that is asked about; its seed is the first of stage 2.
        chosen: names of mechanisms.
        count: unlabelled images.

    Raises:
        UserError: as of `plan`.
    """
    arms = {
        arm: _arm(base, REAL_ONLY, MECHANISMS[name].overrides(strength), VIEW_STRENGTHS[0])
        for name in chosen
        for arm, strength in tried_arms(name).items()
    }
    seed = base.training.seed + CHOOSING_OFFSET
    return plan(base.with_overrides({"training.seed": seed}), arms, [count], CHOOSING_SEEDS)


def tried_arms(mechanism: str) -> dict[str, float]:
    """The arms of stage 1 that choose how strong a mechanism is, each with its strength."""
    weak = VIEW_STRENGTHS[0]
    return {arm_name(REAL_ONLY, mechanism, weak, strength): strength for strength in MECHANISMS[mechanism].tried}


def stage_2(base: Config, strengths: Mapping[str, float], count: int, seeds: int) -> list[Run]:
    """The factorial: families x (nothing and the mechanisms) x view strengths x seeds.

    Args:
        base: as of `stage_1`.
        strengths: by name of a mechanism, as stage 1 has chosen.
        count: unlabelled images.
        seeds: how many, from the base's own on.

    Raises:
        UserError: as of `plan`, or when the seeds would reach those that strengths are chosen on.
    """
    if seeds > CHOOSING_OFFSET:
        raise UserError(f"--seeds {seeds}: the seeds beyond {CHOOSING_OFFSET} choose strengths; give fewer")
    arms: Arms = {}
    for views in VIEW_STRENGTHS:
        for family in FAMILIES:
            arms[arm_name(family, None, views)] = _arm(base, family, {}, views)
            for name, strength in strengths.items():
                arms[arm_name(family, name, views)] = _arm(base, family, MECHANISMS[name].overrides(strength), views)
    return plan(base, arms, [count], seeds)


def _arm(base: Config, family: str, overrides: dict[str, Any], view_strength: float) -> dict[str, Any]:
    return (
        arm_overrides(family, base)
        | overrides
        | {"curriculum.view_strength": {"kind": "constant", "start": view_strength}}
    )


def tried(records: Iterable[Record], config: Config) -> dict[str, dict[float, list[float]]]:
    """Validation scores of stage 1 by mechanism and strength, of finished runs that have not diverged.

    Args:
        records: of both stages.
        config: of the comparison; its headline probe is the score.
    """
    metric = f"val/{names.headline(config)}"
    scores: dict[str, list[float]] = {}
    for record in records:
        if not record.diverged:
            scores.setdefault(record.arm, []).append(record.metrics[metric])
    found: dict[str, dict[float, list[float]]] = {}
    for name in MECHANISMS:
        own = {value: scores[arm] for arm, value in tried_arms(name).items() if arm in scores}
        if own:
            found[name] = own
    return found


def choose(by_strength: Mapping[float, list[float]]) -> float:
    """The strength of the best mean; of equal ones the weakest.

    Args:
        by_strength: validation scores of the choosing seeds; not empty.

    Example:
        >>> choose({0.25: [44.0, 45.0], 0.5: [46.0, 43.0], 1.0: [44.0]})
        0.25
    """
    return max(sorted(by_strength), key=lambda strength: mean(by_strength[strength]))


def strengths_of(records: list[Record], chosen: Iterable[str], config: Config) -> dict[str, float]:
    """What stage 1 has chosen, by mechanism.

    Raises:
        UserError: when every run of one has diverged, so that there is nothing to choose.
    """
    scores = tried(records, config)
    for name in chosen:
        if name not in scores:
            raise UserError(
                f"mechanism {name!r}: all runs of stage 1 have diverged; leave it out with --only, or lower "
                "training.learning_rate"
            )
    return {name: choose(scores[name]) for name in chosen}
