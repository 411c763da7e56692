"""synthcl: contrastive pretraining with generators that make the data harder, and a search for the best curriculum."""

import importlib
import os
from typing import TYPE_CHECKING, Any

# Threads that wait for each other by spinning stall a shared machine: on two busy cores a GAN step took 30 times as
# long. The OpenMP of torch reads this when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from synthcl.config.presets import load_preset
    from synthcl.config.schema import Config
    from synthcl.core.errors import UserError
    from synthcl.face.compare import compare
    from synthcl.face.result import Result
    from synthcl.face.search import search
    from synthcl.face.train import train
    from synthcl.runs.embed import embed
    from synthcl.runs.export import load_encoder
    from synthcl.runs.neighbours import neighbours

__all__ = [
    "Config",
    "Result",
    "UserError",
    "compare",
    "embed",
    "load_encoder",
    "load_preset",
    "neighbours",
    "search",
    "train",
]
__version__ = "0.1.0"

_LATER = {
    "Config": "synthcl.config.schema",
    "Result": "synthcl.face.result",
    "UserError": "synthcl.core.errors",
    "compare": "synthcl.face.compare",
    "embed": "synthcl.runs.embed",
    "load_encoder": "synthcl.runs.export",
    "load_preset": "synthcl.config.presets",
    "neighbours": "synthcl.runs.neighbours",
    "train": "synthcl.face.train",
}
"""names by the module that has them, imported when they are used: torch, Ray and Optuna take seconds"""


def __getattr__(name: str) -> Any:
    if name == "search":
        return importlib.import_module("synthcl.search")  # a module that can be called, see there
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
