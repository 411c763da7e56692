"""What earlier commands recorded about themselves, and whether this one may go on from it."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from synthcl.config.schema import Config
from synthcl.config.upgrade import upgrade
from synthcl.core.errors import UserError


def first_difference(written: dict[str, Any], config: Config, free: Collection[str]) -> tuple[str, Any, Any] | None:
    """The first field in which a recorded config differs from this one, with both values.

    Args:
        written: a config as JSON values, perhaps of an earlier version.
        config: the one at hand.
        free: sections, or dotted fields, that may differ.
    """
    written = upgrade(written)
    same = _SAME_LABELS if same_labels(written.get("evaluation"), config) else ()
    recorded, wanted = flat(written), flat(config.model_dump(mode="json", exclude={"name"}))
    for path in sorted({*recorded, *wanted} - {"name"}):
        if recorded.get(path) != wanted.get(path) and not is_within(path, {*free, *same}):
            return path, recorded.get(path), wanted.get(path)
    return None


def flat(tree: dict[str, Any]) -> dict[str, Any]:
    """Values of a tree by dotted path; empty mappings have none."""
    found: dict[str, Any] = {}
    for name, node in tree.items():
        found |= (
            {f"{name}.{path}": value for path, value in flat(node).items()} if isinstance(node, dict) else {name: node}
        )
    return found


def is_within(path: str, places: Collection[str]) -> bool:
    """Whether a dotted field is one of these fields, or lies in one of these sections."""
    return any(path == place or path.startswith(f"{place}.") for place in places)


_SAME_LABELS = ("evaluation.label_fractions", "evaluation.max_label_images")
_EARLIER_CAP = 50_000
"""labels of a probe where nothing else was asked for: all, of data sets that have no more"""


def same_labels(written: Any, config: Config) -> bool:
    """Whether an evaluation section of an earlier version has the labels that this configuration names.

    There the share 1.0 took at most `max_label_images`, a number that is now an entry of `label_fractions`.
    """
    if not isinstance(written, dict) or 1.0 not in (written.get("label_fractions") or ()):
        return False
    fractions, cap, wanted = written["label_fractions"], written.get("max_label_images"), config.evaluation
    if cap is None:
        return False
    if wanted.max_label_images is None and cap >= _EARLIER_CAP:
        return list(wanted.label_fractions) == fractions
    counted = [cap if entry == 1 else entry for entry in fractions]
    return wanted.max_label_images == cap and list(wanted.label_fractions) == counted


def require_same_config(file: Path, config: Config, free: Collection[str]) -> None:
    """Refuse to go on under the config of a file where another one is asked for.

    Args:
        file: a `config.json`; nothing is checked where there is none.
        config: the one at hand.
        free: sections, or dotted fields, that may differ.

    Raises:
        UserError: naming the first field that differs, or when the file is unreadable.
    """
    if file.is_file() and (differs := first_difference(read_json(file, dict), config, free)):
        field, written, wanted = differs
        raise UserError(
            f"{file} has {field}={written!r}, asked for {wanted!r}; "
            "use --fresh to start over or name=... for a run of its own"
        )


def read_json(file: Path, kind: type) -> Any:
    """What a run recorded about itself.

    Args:
        file: JSON that an earlier command wrote.
        kind: of the value in it, `dict` or `list`.

    Raises:
        UserError: when it is damaged.
    """
    try:
        value = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is unreadable ({error}); restore it, or use --fresh to start over") from None
    if not isinstance(value, kind):
        raise UserError(f"{file} holds a {type(value).__name__}; restore it, or use --fresh to start over")
    return value


WHERE_IT_RUNS = (
    "compute",
    "health",
    "data.root",
    "data.download",
    "data.loader_workers",
    "data.resident_limit_mib",
    "training.checkpoint_minutes",
    "training.log_kimg",
)
"""Fields that say where a run happens, when it logs and saves, and when it is given up, not what it learns."""

REFERENCES = ("evaluation.references", "evaluation.reference_image_size")
"""Fields of networks that are not trained here."""

NOT_LEARNED = ("search", *WHERE_IT_RUNS, *REFERENCES)
"""Fields that a run's weights and scores do not depend on."""

LEARNED = ("views", "encoder", "heads", "synthetic", "terms", "curriculum", "training")
"""Sections that say what a run learns: what may be searched, and what is logged as its hyperparameters."""


def may_be_resumed_with(config: Config) -> set[str]:
    """Fields that a checkpoint may be continued with other values of.

    Closed loops and bandits decide at logged points, of which every rung is one, so that those fields decide what it
    learns.
    """
    if not config.decides_at_logged_points:
        return {"evaluation", *NOT_LEARNED}
    of_evaluation = {f"evaluation.{field}" for field in type(config.evaluation).model_fields}
    return (of_evaluation | {*NOT_LEARNED}) - {"evaluation.rungs", "training.log_kimg"}


def not_measured(config: Config) -> set[str]:
    """`NOT_LEARNED`, and what a run never reads: a GAN it does not meet, rates of a frozen one, a lag without pairs."""
    free = set(NOT_LEARNED)
    if config.decides_at_logged_points:
        free -= {"training.log_kimg"}  # they decide at logged points
    if config.is_real_only:
        free |= {"synthetic", "curriculum.pair_half_life_kimg", "curriculum.mix"}
    if not config.needs_gan:
        free |= {"synthetic.gan", "curriculum.pair_half_life_kimg"}
    if config.gan.frozen:
        rates = ("generator_learning_rate", "discriminator_learning_rate")
        free |= {f"synthetic.gan.{field}" for field in (*rates, "penalty_every", "teacher")}
    if config.gan.candidates == 1:
        free |= {"synthetic.gan.candidates_temperature"}
    if not config.gan.pair:
        free |= {"curriculum.pair_half_life_kimg"}
    return free
