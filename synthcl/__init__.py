"""synthcl: contrastive pretraining with generators that make the data harder, and a search for the best curriculum."""

import os

# Threads that wait for each other by spinning stall a shared machine: on two busy cores a GAN step took 30 times as
# long. The OpenMP of torch reads this when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from synthcl.config.presets import load_preset
from synthcl.config.schema import Config
from synthcl.core.errors import UserError
from synthcl.runs.embed import embed
from synthcl.runs.export import load_encoder
from synthcl.runs.neighbours import neighbours

__all__ = ["Config", "UserError", "embed", "load_encoder", "load_preset", "neighbours"]
__version__ = "0.1.0"
