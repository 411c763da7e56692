"""Has the encoder collapsed? Two statistics of its features."""

from torch import Tensor
from torch.nn import functional as F

from synthcl.evaluation.label_free import effective_rank


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
    spread = F.normalize(features.double(), dim=1).std(dim=0, correction=0).mean()
    return {"features/std": spread.item(), "features/rank": effective_rank(features)}
