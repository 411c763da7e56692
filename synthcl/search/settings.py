"""What a configuration changes, as its run reads it."""

from __future__ import annotations

from typing import Any

from synthcl.config.compatibility import flat, is_within
from synthcl.config.schema import Config

_GENERATED = {
    "curriculum.hardness",
    "curriculum.pair_half_life_kimg",
    "curriculum.synthetic_fraction",
    "curriculum.mix",
}
_RATES = {"synthetic.gan.generator_learning_rate", "synthetic.gan.discriminator_learning_rate"}
_GAME = {"curriculum.hardness", "synthetic.gan.hardness_unit", *_RATES}


def reads(config: Config, field: str) -> bool:
    """Whether a run of this configuration reads a dotted field, or a schedule, at all.

    Without a GAN there is no game; a frozen one does not learn; of one candidate there is no choice; without pairs
    there is no lag; and a schedule without a ramp has no end.
    """
    unread: set[str] = set()
    if config.is_real_only:
        unread |= _GENERATED | {"synthetic"}
    if not config.needs_gan:
        unread |= _GAME | {"curriculum.pair_half_life_kimg", "synthetic.gan"}
    if len(config.sources_on) == 1:
        unread |= {f"synthetic.{name}.portion" for name in config.sources_on}
    if config.gan.frozen:
        unread |= _GAME
    if config.gan.candidates == 1:
        unread |= {"synthetic.gan.candidates_temperature"}
    if not config.gan.pair:
        unread |= {"curriculum.pair_half_life_kimg", "synthetic.gan.views_per_pair"}
    else:
        unread |= {"synthetic.gan.views_per_image"}
    return not is_within(field, unread)


def changes(config: Config, base: Config) -> dict[str, Any]:
    """The fields that a run reads and that differ from another configuration, by dotted path."""
    own, others = (flat(each.model_dump(mode="json")) for each in (config, base))
    return {path: value for path, value in own.items() if value != others.get(path) and reads(config, path)}
