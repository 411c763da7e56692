"""Has the encoder collapsed? Two statistics of its features."""

import torch
from torch import Tensor
from torch.nn import functional as F


def collapse(features: Tensor) -> dict[str, float]:
    """Spread and effective rank of features.

    Args:
        features: (n, d) float.

    Returns:
        "features/std": mean over dimensions of the standard deviation of the unit-norm features; 0 when all
        features point one way, about 1 / sqrt(d) when they fill the sphere. "features/rank": exponential of the
        entropy of the normalised singular values, in [1, min(n, d)].

    Source: Chen and He 2021 (SimSiam), section 4.1, for the deviation; Garrido et al. 2023, "RankMe", equation 1,
        for the rank.
    """
    features = features.double()
    spread = F.normalize(features, dim=1).std(dim=0, correction=0).mean()
    # Eigenvalues of the Gram matrix are squared singular values, and far cheaper than those of a tall matrix.
    singular_values = torch.linalg.eigvalsh(features.T @ features).clamp(min=0).sqrt()
    shares = singular_values / singular_values.sum().clamp(min=torch.finfo(torch.float64).tiny)
    rank = torch.special.entr(shares).sum().exp()
    return {"features/std": spread.item(), "features/rank": rank.item()}
