"""What guesses a target from the output of a head: one hidden layer."""

from torch import nn


def make_predictor(dim: int, hidden: int) -> nn.Sequential:
    """Linear, BatchNorm, ReLU, Linear: (n, dim) -> (n, dim), the form of a projector.

    Args:
        dim: of the head's output and of the target.
        hidden: units of the hidden layer.

    Source: Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020, section 3.2.
    """
    return nn.Sequential(
        nn.Linear(dim, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, dim)
    )
