"""The images that an encoder finds alike."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def nearest(features: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest rows by cosine similarity, without the query itself.

    Args:
        features: (n, dim), n at least 2; a row of zeros has similarity 0 with every other.
        queries: (q,) int64, rows whose neighbours are looked for.
        k: at least 1; there are at most n - 1.

    Returns:
        (indices, similarities): (q, min(k, n - 1)) int64 and float32 in [-1, 1], nearest first, of equals the first.

    Raises:
        ValueError: where n, k or a query is out of range.

    Example:
        >>> import torch
        >>> indices, similarities = nearest(torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]]), torch.tensor([0]), k=2)
        >>> indices.tolist(), [round(value, 3) for value in similarities[0].tolist()]
        ([[2, 1]], [0.707, 0.0])
    """
    count = len(features)
    if count < 2 or k < 1 or (len(queries) and not (queries.min() >= 0 and queries.max() < count)):
        asked = f"k {k} 1 or more, and queries {queries.tolist()} among the rows"
        raise ValueError(f"{count} rows must be 2 or more, {asked}")
    unit = F.normalize(features.float(), dim=1)
    similarities = unit[queries] @ unit.T  # (q, n)
    similarities.scatter_(1, queries[:, None], -2.0)  # below any cosine, so that a query comes last
    ordered, indices = similarities.sort(dim=1, descending=True, stable=True)
    most = min(k, count - 1)
    return indices[:, :most], ordered[:, :most].clamp(-1, 1)
