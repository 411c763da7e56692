"""Whether the generator plays fair: how hard, how real and how varied its images are for the encoder."""

from __future__ import annotations

import torch
from torch import Tensor

from synthcl.config.schema import Config
from synthcl.core import distributed
from synthcl.training.batch import Batch


@torch.no_grad()
def diagnostics(
    features: Tensor, embeddings: Tensor, batch: Batch, paired: bool, config: Config, statistics: dict[str, Tensor]
) -> None:
    """Measure whether the adversary plays fair.

    `synthetic/pair_similarity`: mean cosine of the embeddings of G(z) and G_ema(z), high when pairs are easy.
    `synthetic/realism_gap`: squared distance of means plus that of standard deviations between synthetic and
    real features, over the real features' total variance (a diagonal Frechet distance); 0 is indistinguishable.
    `synthetic/diversity`: covariance over latents of the features of two views of a latent, of G(z) where it has
    two, over the real features' total variance; 0 is a collapsed G. (Views alone give one and the same image a quarter
    of the variance of real ones.)
    """
    real_views = len(batch.real) * config.method.views_per_image
    latents = len(batch.latents)
    if paired:
        of_generator, of_average = embeddings[real_views:].view(2, -1, latents, embeddings.shape[1])
        statistics["synthetic/pair_similarity"] = (of_generator[0] * of_average[0]).sum(dim=1).mean()
    if real_views > 1:
        real, synthetic = distributed.gather(features[:real_views]), distributed.gather(features[real_views:])
        deviation_real, deviation_synthetic = real.std(dim=0, correction=0), synthetic.std(dim=0, correction=0)
        total = deviation_real.square().sum().clamp(min=1e-12)
        gap = (real.mean(dim=0) - synthetic.mean(dim=0)).square() + (deviation_real - deviation_synthetic).square()
        statistics["synthetic/realism_gap"] = gap.sum() / total
        first, second, *_ = synthetic.view(distributed.world_size(), -1, latents, synthetic.shape[1]).transpose(0, 1)
        both = (first - first.mean(dim=(0, 1))) * (second - second.mean(dim=(0, 1)))  # (processes, latents, features)
        statistics["synthetic/diversity"] = both.mean(dim=(0, 1)).sum() / total
