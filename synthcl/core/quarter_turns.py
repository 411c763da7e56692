"""Images turned by right angles, which moves pixels and blurs none."""

import torch
from torch import Tensor


def quarter_turned(images: Tensor, turns: Tensor) -> Tensor:
    """Each image turned counter-clockwise about its centre, by a number of right angles of its own.

    Args:
        images: (n, C, s, s).
        turns: (n,) int64 in [0, 4).

    Returns:
        (n, C, s, s), the same pixels in other places.

    Example:
        >>> quarter_turned(torch.tensor([[[[1, 2], [3, 4]]]]), torch.tensor([1])).tolist()
        [[[[2, 4], [1, 3]]]]
    """
    turned = torch.stack([images.rot90(quarters, (2, 3)) for quarters in range(4)])  # (4, n, C, s, s)
    return turned[turns, torch.arange(len(images), device=images.device)]
