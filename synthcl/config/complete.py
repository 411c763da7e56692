"""Whether a configuration has the members that no run does without."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from synthcl.method.objectives import AnyTerm
from synthcl.method.views import AnyView


def require_views_and_heads(views: Mapping[str, AnyView], heads: Collection[str]) -> None:
    """Refuse views without a base view, or with two, and heads without a main one.

    Raises:
        ValueError: naming what there is.
    """
    bases = [name for name, view in views.items() if view.kind == "simclr"]
    if bases != ["base"]:
        raise ValueError(f"views has {bases or 'no entry'} of kind simclr; it needs one, named base")
    if "main" not in heads:
        raise ValueError(f"heads has {sorted(heads)}; it needs an entry named main")


def require_taught(terms: Mapping[str, AnyTerm], heads: Collection[str]) -> None:
    """Refuse a term that looks through a head there is not, and terms of which a step may have none.

    Raises:
        ValueError: naming the term.
    """
    for name, term in terms.items():
        if term.head not in heads:
            raise ValueError(f"terms.{name}.head {term.head!r} is no entry of heads, which has {sorted(heads)}")
    if not any(term.weight.bounds[0] > 0 for term in terms.values()):
        raise ValueError("terms has no entry whose weight stays above 0, so that some step would teach nothing")
