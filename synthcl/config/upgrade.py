"""Configurations that earlier versions recorded, in today's words."""

from __future__ import annotations

from typing import Any

REMOVED: dict[str, Any] = {"method.update": "simultaneous"}
"""fields there are no more, and the value that is done today; with any other the configuration is refused"""
ADDED: dict[str, Any] = {"method.views_per_pair": 4}
"""fields that a recorded configuration may lack, and what was done before there was a choice"""


def upgrade(tree: Any) -> Any:
    """A recorded configuration as this version writes it; what it does not know is left, to be refused by name.

    Args:
        tree: sections and their fields, of any version; it is not changed.

    Example:
        >>> upgrade({"name": "old", "method": {"pair": True, "update": "simultaneous"}})
        {'name': 'old', 'method': {'pair': True, 'views_per_pair': 4}}
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
            tree[section].setdefault(field, value)
    return tree
