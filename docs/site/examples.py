"""Examples of docstrings are Python, and shown as such."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Puts the code below `Example:` into a fence."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = re.sub(
                r"^Example:\n((?: {4}.*(?:\n|\Z)|\n)+)",
                lambda found: f"Examples:\n    ```python\n{found[1].rstrip()}\n    ```\n\n",
                obj.docstring.value,
                flags=re.MULTILINE,
            )
