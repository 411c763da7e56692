"""Configurations that earlier versions recorded, in today's words."""

from __future__ import annotations

import copy
from typing import Any

MOVED: dict[str, str] = {
    "views": "views.base",
    "encoder.name": "encoder.kind",
    "encoder.projector_hidden": "heads.main.hidden",
    "encoder.projector_dim": "heads.main.dim",
    "gan": "synthetic.gan",
    "method": "synthetic.gan",
    "method.views_per_image": "training.views_per_image",
    "search.reduction_factor": "search.keep_one_in",
    "training.temperature": "terms.contrast.temperature",
}
"""fields, and sections with all their fields, that stand elsewhere today; the longest entry holds"""
REMOVED: dict[str, Any] = {"method.update": "simultaneous"}
"""fields there are no more, and the value that is done today; with any other the configuration is refused"""
ADDED: dict[str, Any] = {
    "method.views_per_pair": 4,
    "curriculum.mix": None,
    "curriculum.balance": {"strength": 0.0, "clusters": 16, "begin": 0.2},
    "data.labels": "folders",
    "encoder.weights": None,
    "encoder.normalise": "auto",
    "encoder.trunk_learning_rate_factor": 1.0,
    "encoder.style": None,
    "evaluation.label_free": [],
    "evaluation.origin_probe": False,
    "evaluation.references": {},
    "evaluation.reference_image_size": 224,
    "search.label_free": None,
    "search.calibration": None,
    "search.log_to": [],
    "training.restart_at": None,
    "data.pretrain_on": "train",
    "training.slow_half_life_kimg": 10.0,
    "search.members": None,
    "search.exploit": 0.25,
    "search.seed_deviation": 1.5,
    "search.refit": "none",
}
"""fields that a recorded configuration may lack, and what was done before there was a choice"""

_SEARCHED_BY_STOPPING = {
    "algorithm": "stopping",
    "hours": None,
    "opponent_share": 0.0,
    "opponent_space": "real-only",
    "equal_time": False,
}
"""what a search did when its section had a `reduction_factor`"""
_OF_KIND = {"conv": ("width",), "resnet18": ("stem",), "resnet50": ("stem",)}
_RAMPS = {"constant": (), "step": ("end", "ramp_begin")}
"""of schedules: fields beside `start` where not all are read"""

_NEW: dict[str, tuple[str, dict[str, Any]]] = {
    "views": ("base", {"kind": "simclr"}),
    "heads": ("main", {"kind": "mlp"}),
    "synthetic": ("gan", {"kind": "gan"}),
    "terms": (
        "contrast",
        {"kind": "ppcl", "weight": {"kind": "constant", "start": 1.0}, "head": "main", "plays": True},
    ),
}
"""members of families, and what was done before there was a choice"""
_ADDED_TO_KINDS: dict[str, dict[str, dict[str, Any]]] = {
    "synthetic": {
        "gan": {
            "views_per_image": 2,
            "walk": {"kind": "constant", "start": 0.0},
            "pool": None,
            "candidates": 1,
            "candidates_temperature": {"kind": "constant", "start": 1.0},
            "view_strength_factor": {"kind": "constant", "start": 1.0},
            "teacher": {"kind": "constant", "start": 0.0},
            "penalty_every": 1,
            "warmup_penalty_every": 1,
        },
        "folder": {"views_per_image": 2},
    },
    "heads": {"mlp": {"depth": 2}},
    "terms": {"ppcl": {"within_source": False, "soft_positives": None}},
}
"""by family and kind: fields that a recorded member may lack, and what was done before there was a choice"""
_NUMBERS = {
    "synthetic": ("gan", ("generator_learning_rate", "discriminator_learning_rate")),
    "terms": ("ppcl", ("temperature",)),
}
"""by family: fields of members of this kind that were numbers, which stand for constant schedules"""


def path_today(path: str) -> str:
    """Where a dotted field of an earlier version stands.

    Example:
        >>> path_today("gan.warmup_kimg"), path_today("training.temperature"), path_today("training.kimg")
        ('synthetic.gan.warmup_kimg', 'terms.contrast.temperature', 'training.kimg')
    """
    section, _, rest = path.partition(".")
    if path in MOVED and path != "views":
        return MOVED[path]
    if section not in MOVED or not rest or (section == "views" and rest.split(".")[0] not in _OLD_VIEWS):
        return path
    return f"{MOVED[section]}.{rest}"


_OLD_VIEWS = {
    "size",
    "crop_area_min",
    "crop_ratio_max",
    "flip_probability",
    "jitter_probability",
    "brightness",
    "contrast",
    "saturation",
    "hue",
    "grayscale_probability",
    "blur_probability",
    "blur_sigma_min",
    "blur_sigma_max",
}


def upgrade(tree: Any) -> Any:
    """A recorded configuration as this version writes it; what it does not know is left, to be refused by name.

    Args:
        tree: sections and their fields, of any version; it is not changed.

    Example:
        >>> upgrade({"name": "old", "views": {"size": 16}})
        {'name': 'old', 'views': {'base': {'kind': 'simclr', 'size': 16}}}
    """
    if not isinstance(tree, dict):
        return tree
    tree = {name: dict(section) if isinstance(section, dict) else section for name, section in tree.items()}
    for path, value in REMOVED.items():
        section, field = path.split(".")
        if isinstance(tree.get(section), dict) and tree[section].get(field) == value:
            del tree[section][field]
    for path, value in ADDED.items():
        section, field = path.split(".")
        if isinstance(tree.get(section), dict):
            tree[section].setdefault(field, copy.copy(value))
    _drop_unread(tree)
    if isinstance(tree.get("search"), dict) and "reduction_factor" in tree["search"]:
        tree["search"] = _SEARCHED_BY_STOPPING | tree["search"]
        tree["search"].setdefault("budgets", tree["search"].get("trials", 8))
    moved = False
    for section in [section for section in tree if isinstance(tree[section], dict)]:
        for field in list(tree[section]):
            if (place := path_today(f"{section}.{field}")) != f"{section}.{field}":
                _put(tree, place, tree[section].pop(field))
                moved = True
        if not tree[section] and section in ("gan", "method"):
            del tree[section]
    for family, (member, new) in _NEW.items() if moved else ():
        if isinstance(tree.get(family), dict) and isinstance(tree[family].get(member), dict):
            tree[family][member] = new | tree[family][member]
    for family, kinds in _ADDED_TO_KINDS.items():
        for name, member in tree[family].items() if isinstance(tree.get(family), dict) else ():
            if isinstance(member, dict) and member.get("kind") in kinds:
                tree[family][name] = kinds[member["kind"]] | member
    for family, (kind, fields) in _NUMBERS.items():
        for name, member in tree[family].items() if isinstance(tree.get(family), dict) else ():
            if isinstance(member, dict) and member.get("kind", kind) == kind:
                tree[family][name] = member | {
                    field: {"kind": "constant", "start": member[field]}
                    for field in fields
                    if isinstance(member.get(field), int | float) and not isinstance(member[field], bool)
                }
    return tree


def _drop_unread(tree: dict[str, Any]) -> None:
    """Fields that an earlier version wrote for every kind, and that this kind never read."""
    encoder, curriculum = tree.get("encoder"), tree.get("curriculum")
    read: tuple[str, ...]
    if isinstance(encoder, dict) and {"name", "projector_hidden", "projector_dim"} & encoder.keys():
        read = _OF_KIND.get(encoder.setdefault("name", "conv"), ())
        for field in ("width", "stem"):
            if field not in read:
                encoder.pop(field, None)
    if not isinstance(curriculum, dict):
        return
    for name, schedule in curriculum.items():
        if not isinstance(schedule, dict):
            continue
        schedule = dict(schedule)
        if not {"end", "ramp_begin", "ramp_end"} <= schedule.keys():
            continue  # not as it was recorded
        read = _RAMPS.get(schedule.get("kind", "constant"), ("end", "ramp_begin", "ramp_end"))
        for field in {"end", "ramp_begin", "ramp_end"} - {*read}:
            schedule.pop(field, None)
        if "end" in read and schedule.get("end", 0.0) is None:
            schedule["end"] = schedule.get("start")
        curriculum[name] = schedule


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, leaf = path.split(".")
    for part in parents:
        tree = tree.setdefault(part, {})
    tree[leaf] = value
