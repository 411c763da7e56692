"""The search for a curriculum; nothing else in the package imports Ray Tune or Optuna.

The room has the name of a public function, and importing anything in it makes it the attribute `synthcl.search`. So the
module itself can be called: `synthcl.search("photos")` is `synthcl.face.search.search`.
"""

import inspect
import sys
from types import ModuleType
from typing import Any

import synthcl.cluster  # noqa: F401 (sets what Ray reads when it is imported)


class _Callable(ModuleType):
    """A module that is called as the function of its name."""

    def __call__(self, *given: Any, **named: Any) -> Any:
        return _function()(*given, **named)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(_function())

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return inspect.getdoc(_function())


def _function() -> Any:
    from synthcl.face.search import search  # the room above, at a call alone

    return search


sys.modules[__name__].__class__ = _Callable
