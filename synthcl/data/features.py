"""What an encoder makes of the images of a source, a batch at a time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from synthcl.core.errors import Diverged
from synthcl.core.updates import evaluating
from synthcl.data.images import ImageSource
from synthcl.data.order import stream
from synthcl.data.transform import as_seen


@torch.no_grad()
def encode(
    encoder: nn.Module,
    images: ImageSource,
    indices: Tensor | None,
    batch_images: int,
    view_size: int,
    loader_workers: int = 0,
) -> Tensor:
    """Features of whole images, without views, from the encoder in evaluation mode (modes are restored after).

    Args:
        encoder: (n, C, view_size, view_size) in [-1, 1] -> (n, feature_dim).
        images: source of uint8 images (n, C, S, S) on the encoder's device.
        indices: (n,) int64 on the CPU, the images to encode in this order; none means all.
        batch_images: images encoded at a time.
        view_size: pixels a side the encoder was trained at; images of another size are resized, antialiased.
        loader_workers: decoding processes for images streamed from disk.

    Returns:
        (n, feature_dim) float32 on the images' device.

    Raises:
        Diverged: when a feature is NaN or infinite.
    """
    rows = torch.arange(len(images)) if indices is None else indices
    with evaluating(encoder):
        batches = stream(images, rows.split(batch_images), loader_workers)
        features = torch.cat([encoder(as_seen(batch, view_size)).float() for batch in batches])
    bad = int((~features.isfinite()).any(dim=1).sum())
    if bad:
        raise Diverged(
            f"encoder gives non-finite features for {bad} of {len(features)} images: the training has diverged; "
            "a lower training.learning_rate or a higher terms.contrast.temperature is right"
        )
    return features
