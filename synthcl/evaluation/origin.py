"""Does an encoder tell real from synthetic images? If a linear probe does, so may the contrastive loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from synthcl.config.schema import Config
from synthcl.core.rng import generator
from synthcl.data import ImageSource
from synthcl.data.features import encode
from synthcl.evaluation.features import Labelled
from synthcl.evaluation.panel import panel_images
from synthcl.evaluation.probes.linear import ridge

IMAGES = 1024
"""of either kind, at most; the quarters that are scored have 512, and a deviation of 2.2 points at 50 %"""
FEWEST_IMAGES = 32


def origin(real: Tensor, synthetic: Tensor) -> float:
    """Accuracy, in percent, of a linear probe that tells features of real images from those of synthetic ones.

    Args:
        real: (n, f), n at least 4; half are fitted on, a quarter chooses the penalty, the rest is scored.
        synthetic: (n, f), likewise.

    Returns:
        About 50 where the two have one distribution; 100 where a plane parts them.

    Source: the proxy of the distance of domains by Ben-David et al., "Analysis of Representations for Domain
    Adaptation", NeurIPS 2006, section 4, 2 (2 accuracy - 1) of a linear classifier; here a ridge probe.

    Example:
        >>> origin(torch.zeros(8, 2), torch.ones(8, 2))
        100.0
    """
    features = torch.stack([real, synthetic])  # (2, n, f)
    fitted, chosen = len(real) // 2, 3 * len(real) // 4

    def part(rows: slice) -> Labelled:
        those = features[:, rows]
        labels = torch.arange(2, device=features.device).repeat_interleave(those.shape[1])
        return Labelled(those.flatten(0, 1), labels)

    return ridge(part(slice(fitted)), part(slice(fitted, chosen)), 2).accuracy(part(slice(chosen, None)))


def measure(
    encoder: nn.Module, config: Config, device: torch.device, synthetic: Callable[[int], Mapping[str, ImageSource]]
) -> dict[str, float]:
    """`origin` of every source with 32 images or more, where `evaluation.origin_probe` asks for it.

    Args:
        encoder: (n, C, view_size, view_size) in [-1, 1] -> (n, feature_dim), on `device`.
        config: of the run.
        device: where the networks live.
        synthetic: images of each source by name, at least as many as it is asked for where there are so many.

    Returns:
        `synthetic/origin_probe` of the GAN, `synthetic/NAME/origin_probe` of a folder.
    """
    if not config.evaluation.origin_probe:
        return {}
    found, real = {}, panel_images(config.data, device)
    for name, images in synthetic(IMAGES).items():
        if (count := min(IMAGES, len(real), len(images))) >= FEWEST_IMAGES:
            probed = (_features(encoder, config, each, count) for each in (real, images))
            found["synthetic/origin_probe" if name == "gan" else f"synthetic/{name}/origin_probe"] = origin(*probed)
    return found


def _features(encoder: nn.Module, config: Config, images: ImageSource, count: int) -> Tensor:
    """Features (count, feature_dim) of whole images, a fixed draw."""
    chosen = torch.randperm(len(images), generator=generator(config.data.split_seed, "origin probe"))[:count]
    return encode(encoder, images, chosen, config.evaluation.batch_images, config.view_size, config.data.loader_workers)
