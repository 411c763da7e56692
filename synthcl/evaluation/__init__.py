"""What a frozen encoder is worth: probes, neighbours, transfer, and the protocol that names their scores."""

from synthcl.data.features import encode
from synthcl.evaluation.features import Labelled
from synthcl.evaluation.protocol import objective, score

__all__ = ["Labelled", "encode", "objective", "score"]
