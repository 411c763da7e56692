"""synthcl: contrastive pretraining with generators that make the data harder, and a search for the best curriculum."""

from synthcl.config import Config, load_preset
from synthcl.errors import UserError
from synthcl.export import load_encoder

__all__ = ["Config", "UserError", "load_encoder", "load_preset"]
__version__ = "0.1.0"
