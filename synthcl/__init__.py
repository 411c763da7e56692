"""synthcl: contrastive pretraining with generators that make the data harder, and a search for the best curriculum."""

import os

# Threads that wait for each other by spinning stall a shared machine: on two busy cores a GAN step took 30 times as
# long. The OpenMP of torch reads this when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from synthcl.config import Config
from synthcl.errors import UserError
from synthcl.export import load_encoder
from synthcl.presets import load_preset

__all__ = ["Config", "UserError", "load_encoder", "load_preset"]
__version__ = "0.1.0"
