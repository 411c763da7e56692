"""What guesses a target from the output of a head, or from features: one hidden layer."""

from torch import nn


def make_predictor(dim: int, hidden: int, guessed: int | None = None) -> nn.Sequential:
    """Linear, BatchNorm, ReLU, Linear: (n, dim) -> (n, guessed), the form of a projector.

    Args:
        dim: of what it looks at.
        hidden: units of the hidden layer.
        guessed: of the target; None where it is as wide as what it looks at.

    Source: Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020, section 3.2.
    """
    return nn.Sequential(
        nn.Linear(dim, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, dim if guessed is None else guessed),
    )
