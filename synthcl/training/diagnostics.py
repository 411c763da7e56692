"""Whether the game is fair: embeddings that do not collapse, and how hard, real and varied synthetic images are."""

from __future__ import annotations

import torch
from torch import Tensor

from synthcl.core import distributed


@torch.no_grad()
def of_embeddings(embeddings: Tensor) -> dict[str, Tensor]:
    """`encoder/variance`: total variance of the embeddings (views, dim), at most 1; 0 is a collapsed encoder."""
    centre = distributed.mean(embeddings.detach().float().mean(dim=0))
    return {"encoder/variance": 1 - centre.square().sum()}  # total, of unit vectors


@torch.no_grad()
def of_views(embeddings: Tensor, views_per_image: int) -> dict[str, Tensor]:
    """`encoder/alignment`: mean squared distance of two views of an image, in [0, 4]; 0 is no difference.

    Args:
        embeddings: (views, dim) of length 1, in blocks of one view an image.
        views_per_image: blocks.
    """
    of_images = embeddings.detach().float().unflatten(0, (views_per_image, -1))  # (views, images, dim)
    pairs = views_per_image * (views_per_image - 1)
    cosines = (of_images.sum(dim=0).square().sum(dim=1) - views_per_image) / pairs
    return {"encoder/alignment": 2 - 2 * cosines.mean()}


@torch.no_grad()
def of_synthetic(
    features: Tensor, embeddings: Tensor, real: slice, rows: slice, views_per_latent: int, views_per_image: int
) -> dict[str, Tensor]:
    """Measure whether the adversary plays fair, or what a folder's images are like.

    `pair_similarity`: mean cosine of the embeddings of G(z) and G_ema(z), high when pairs are easy.
    `realism_gap`: squared distance of means plus that of standard deviations between synthetic and
    real features, over the real features' total variance (a diagonal Frechet distance); 0 is indistinguishable.
    `diversity`: covariance over latents of the features of two views of a latent, of G(z) where it has
    two, over the real features' total variance; 0 is a collapsed G. (Views alone give one and the same image a quarter
    of the variance of real ones.)

    Args:
        features: (views, features) of this process.
        embeddings: (views, dim) of the same views, of length 1.
        real: rows of the real views.
        rows: of the synthetic views of a source, which lie in blocks of one view a latent.
        views_per_latent: of them; with one alone there is no diversity to measure.
        views_per_image: half of that where the second half of the rows is of G_ema(z).
    """
    features, embeddings = features.detach().float(), embeddings.detach().float()
    latents = (rows.stop - rows.start) // views_per_latent
    statistics = {}
    if views_per_image < views_per_latent:
        of_generator, of_average = embeddings[rows].view(2, -1, latents, embeddings.shape[1])
        statistics["pair_similarity"] = (of_generator[0] * of_average[0]).sum(dim=1).mean()
    if real.stop - real.start > 1:
        of_real, synthetic = distributed.gather(features[real]), distributed.gather(features[rows])
        deviation_real, deviation_synthetic = of_real.std(dim=0, correction=0), synthetic.std(dim=0, correction=0)
        total = deviation_real.square().sum().clamp(min=1e-12)
        gap = (of_real.mean(dim=0) - synthetic.mean(dim=0)).square() + (deviation_real - deviation_synthetic).square()
        statistics["realism_gap"] = gap.sum() / total
        if views_per_latent == 1:
            return statistics
        first, second, *_ = synthetic.view(distributed.world_size(), -1, latents, synthetic.shape[1]).transpose(0, 1)
        both = (first - first.mean(dim=(0, 1))) * (second - second.mean(dim=(0, 1)))  # (processes, latents, features)
        statistics["diversity"] = both.mean(dim=(0, 1)).sum() / total
    return statistics
