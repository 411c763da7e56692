"""What a configuration changes, as its run reads it."""

from __future__ import annotations

from typing import Any

from synthcl.config.schema import Config

_GENERATED = {"curriculum.hardness", "curriculum.pair_half_life_kimg", "curriculum.synthetic_fraction"}
_GAME = {"curriculum.hardness", "gan.generator_learning_rate", "gan.discriminator_learning_rate"}
_HOW = {"method.update", "method.hardness_unit"}


def reads(config: Config, field: str) -> bool:
    """Whether a run of this configuration reads a dotted field, or a schedule, at all.

    Real images alone meet no generator; a frozen one does not learn; without pairs there is no lag; and a schedule
    without a ramp has no end.
    """
    unread: set[str] = set()
    if config.is_real_only:
        unread |= _GENERATED | _HOW | {"gan", "method.frozen", "method.pair", "method.views_per_pair"}
    if config.method.frozen:
        unread |= _GAME | _HOW
    if not config.method.pair:
        unread |= {"curriculum.pair_half_life_kimg", "method.views_per_pair"}
    for name, schedule in config.curriculum:
        path = f"curriculum.{name}"
        if schedule.kind == "constant":
            unread |= {f"{path}.end", f"{path}.ramp_begin", f"{path}.ramp_end"}
        if schedule.kind == "step":
            unread |= {f"{path}.ramp_end"}
    return not any(field == path or field.startswith(f"{path}.") for path in unread)


def changes(config: Config, base: Config) -> dict[str, Any]:
    """The fields that a run reads and that differ from another configuration, by dotted path."""
    own, others = _flat(config), _flat(base)
    return {path: value for path, value in own.items() if value != others.get(path) and reads(config, path)}


def _flat(config: Config) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def walk(prefix: str, node: Any) -> None:
        if isinstance(node, dict):
            for name, value in node.items():
                walk(f"{prefix}.{name}" if prefix else name, value)
        else:
            found[prefix] = node

    walk("", config.model_dump(mode="json"))
    return found
