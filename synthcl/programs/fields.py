"""What can be set: every field with its type, bounds, default and a line.

synthcl fields                        the sections
synthcl fields curriculum             one section
synthcl fields synthetic.gan          a member of a family
synthcl fields curriculum.hardness    the kinds of a family, each with its fields
"""

from __future__ import annotations

import argparse
import types
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.core.plugin import Section, members
from synthcl.core.tables import aligned


def parser() -> argparse.ArgumentParser:
    """What can be given."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("place", nargs="?", default="", help="dotted, such as search or terms.contrast")
    return made


def main() -> None:
    print("\n".join(lines(parser().parse_args().place)))


def lines(place: str) -> Iterator[str]:
    """The fields at a place of the configuration, or its sections.

    Raises:
        UserError: where there is no such place.
    """
    annotation: Any = Config
    for part in filter(None, place.split(".")):
        annotation = _inner(annotation, part, place)
    if annotation is Config:
        for name, field in Config.model_fields.items():
            yield f"{name:<12} {field.description or (_summary(field.annotation))}"
        return
    if get_origin(annotation) is dict:
        yield f"{place} holds members by name, each of one of these kinds:"
    if not _is_family(annotation):
        raise UserError(f"{place} is a field and has none of its own; synthcl fields {place.rpartition('.')[0]} has it")
    for number, section in enumerate(_described(annotation)):
        if number:
            yield ""
        yield f"{place}: {section.summary}"
        rows = [["field", "type", "default", ""], *map(list, section.rows)]
        yield from aligned(rows, numbers=False, indent=2).splitlines()


def places() -> Iterator[tuple[str, list[Described]]]:
    """Every place of the configuration that has fields, with the sections that may stand there; each section once."""
    seen: set[type[Section]] = {Config}
    waiting = [(name, field.annotation) for name, field in Config.model_fields.items()]
    while waiting:
        place, annotation = waiting.pop(0)
        sections = [section for section in dict.fromkeys(_sections(annotation)) if section not in seen]
        if not sections:
            continue
        seen.update(sections)
        named = f"{place}.NAME" if get_origin(annotation) is dict else place
        yield named, [_describe(section) for section in sections]
        for section in sections:
            waiting += [(f"{named}.{name}", field.annotation) for name, field in section.model_fields.items()]


class Row(NamedTuple):
    """A field: its name, and its type with bounds, its default and its line as they are printed."""

    name: str
    type: str
    default: str
    description: str


class Described(NamedTuple):
    """A section: its kind (empty outside a family), its first line, and its fields."""

    kind: str
    summary: str
    rows: list[Row]


def _described(annotation: Any) -> list[Described]:
    return [_describe(section) for section in dict.fromkeys(_sections(annotation))]


def _describe(section: type[Section]) -> Described:
    kind = section.model_fields.get("kind")
    summary = (section.__doc__ or section.__name__).strip().splitlines()[0]
    rows = [
        Row(name, _type(field), _default(field), field.description or "")
        for name, field in section.model_fields.items()
    ]
    return Described(" or ".join(get_args(kind.annotation)) if kind else "", summary, rows)


def _inner(annotation: Any, part: str, place: str) -> Any:
    if get_origin(annotation) is dict:
        return get_args(annotation)[1]
    for section in _sections(annotation) if _is_family(annotation) else ():
        if part in section.model_fields:
            return section.model_fields[part].annotation
    known = sorted({name for section in _sections(annotation) for name in section.model_fields})
    raise UserError(f"there is no field {part!r} in {place!r}; there: {', '.join(known)}")


def _is_family(annotation: Any) -> bool:
    return bool(list(_sections(annotation)))


def _sections(annotation: Any) -> list[type[Section]]:
    if get_origin(annotation) is dict:
        annotation = get_args(annotation)[1]
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, Section) else []
    try:
        return list(members(annotation).values())
    except (AttributeError, KeyError, TypeError):
        return []


def _summary(annotation: Any) -> str:
    found = _sections(annotation)
    return (found[0].__doc__ or "").strip().splitlines()[0] if found and found[0].__doc__ else ""


def _type(field: FieldInfo) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    said = [
        f"{sign} {getattr(limit, bound):g}"
        for limit in field.metadata
        for bound, sign in signs.items()
        if isinstance(getattr(limit, bound, None), int | float)
    ]
    return ", ".join([_name(field.annotation), *said])


def _name(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " | ".join(str(value) for value in get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        sections = _sections(annotation)
        if sections:
            return "a schedule, or a number" if "constant" in members(annotation) else " | ".join(members(annotation))
        return " | ".join(_name(part) for part in get_args(annotation))
    if annotation is type(None):
        return "null"
    return getattr(annotation, "__name__", str(annotation)).replace("typing.", "")


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "(needed)"
    value = field.default
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
        return str(value["start"]) if value.get("kind") == "constant" else str(value.get("kind", "..."))
    if isinstance(value, float):
        return f"{value:.4g}"
    return "null" if value is None else str(list(value) if isinstance(value, tuple) else value)
