"""Values by dotted path, put into a configuration that has sections, families of them, and members by name."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, get_args, get_origin

from synthcl.core.errors import UserError
from synthcl.core.plugin import Section, members


def put(tree: dict[str, Any], path: str, value: Any, root: type[Section]) -> None:
    """Put a value into a tree of a config's values; a new kind keeps the fields that it shares with the old one.

    Args:
        tree: values by section, family, member and field; it is changed.
        path: dotted; of a member that is not there, one is begun.
        value: None takes a member of a family away.
        root: the section that the whole tree is of.

    Raises:
        UserError: where there is no such field.
    """
    *parents, leaf = path.split(".")
    node: Any = tree
    section: Any = root
    for part in parents:
        inner = _inner(section, node, part)
        if isinstance(node, dict) and node.get(part) is None and (get_origin(section) is dict or _may_be_none(inner)):
            node[part] = {}  # a new member of a family
        node, section = (node.get(part) if isinstance(node, dict) else None), inner
        if not isinstance(node, dict):
            raise UserError(f"override {path}={value!r}: there is no field {path!r}; --dry-run lists all fields")
    collection = get_origin(section) is dict
    known = set(node) if collection else {"kind"} if leaf == "kind" and not node else _fields(section, node)
    if not collection and leaf not in known:
        raise UserError(
            f"override {path}={value!r}: there is no field {path!r}; "
            f"{'.'.join(parents) or 'the config'} has: {', '.join(sorted(known))}"
        )
    if collection and value is None:
        node.pop(leaf, None)
        return
    node[leaf] = deepcopy(value)  # what a later path changes inside it is not the caller's
    if leaf == "kind":
        kept = _fields(section, node)
        for field in [field for field in node if field not in kept]:
            del node[field]


def _inner(section: Any, node: Any, part: str) -> Any:
    """What a field of a section is: a section, a family of them, or a dict of members of a family."""
    if get_origin(section) is dict:
        return get_args(section)[1]
    chosen = _section(section, node)
    field = chosen.model_fields.get(part) if chosen else None
    return field.annotation if field else None


def _may_be_none(annotation: Any) -> bool:
    """Whether a field takes a member of a family, or none."""
    try:
        return type(None) in get_args(annotation) and bool(members(annotation))
    except (AttributeError, KeyError, TypeError):  # a field of plain values
        return False


def _section(section: Any, node: Any) -> type[Section] | None:
    """The section itself, or the member of a family that a tree of values is of."""
    if isinstance(section, type):
        return section if issubclass(section, Section) else None
    try:
        return members(section).get(node.get("kind"))
    except (AttributeError, KeyError, TypeError):  # a field of plain values
        return None


def _fields(section: Any, node: dict[str, Any]) -> set[str]:
    chosen = _section(section, node)
    return {*chosen.model_fields} if chosen else set(node)


def without_kinds(place: tuple[int | str, ...], tree: Any) -> Iterator[str]:
    """Where in the tree an error is; pydantic adds the kind of the member that it has read."""
    for part in place:
        if isinstance(tree, int | float | str):
            return  # a number that stands for a schedule
        if (
            isinstance(tree, dict)
            and part not in tree
            and part == tree.get("kind", None if part == place[-1] else part)
        ):
            continue
        yield str(part)
        tree = tree.get(part) if isinstance(tree, dict) else None
