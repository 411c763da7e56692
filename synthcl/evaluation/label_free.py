"""Scores of an encoder that need no labels, each a function of what it makes of images under fixed views.

None says by itself that an encoder is good: comparison/calibration.py tells which of them has chosen well where labels
were there to see it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from synthcl.core.kmeans import kmeans

_TINY = torch.finfo(torch.float64).tiny


def effective_rank(vectors: Tensor) -> float:
    """RankMe: exponential of the entropy of the normalised singular values, not centred.

        exp(-sum_k p_k ln p_k),   p_k = sigma_k / sum_l sigma_l

    Args:
        vectors: (n, d) float.

    Returns:
        In [1, min(n, d)]; 1 too where all are 0.

    Source: Garrido et al., "RankMe", ICML 2023, equation 1, without its epsilon. The paper's is of embeddings.

    Example:
        >>> round(effective_rank(torch.eye(5)), 6), round(effective_rank(torch.ones(5, 5)), 3)
        (5.0, 1.0)
    """
    vectors = vectors.double()
    # Eigenvalues of the Gram matrix are squared singular values, and far cheaper than those of a tall matrix.
    return _exp_entropy(torch.linalg.eigvalsh(vectors.T @ vectors).clamp(min=0).sqrt())


def power_law(vectors: Tensor, first: int = 10) -> float:
    """The alpha of alpha-ReQ: how fast the eigenvalues of the covariance fall, lambda_j ~ j^-alpha.

    Args:
        vectors: (n, d) float.
        first: eigenvalue, counted from 1, with which the fit of logarithms by least squares begins; of fewer than twice
            as many it begins with the first.

    Returns:
        alpha; good encoders are said to have one near 1. 0 where fewer than two eigenvalues are above 0.

    Source: Agrawal et al., "alpha-ReQ", NeurIPS 2022, section 3.
    """
    centred = vectors.double() - vectors.double().mean(dim=0)
    values = torch.linalg.eigvalsh(centred.T @ centred / len(centred)).flip(0)  # falling
    values = values[values > 1e-12 * values[0].clamp(min=_TINY)]
    ranks = torch.arange(1, len(values) + 1, dtype=torch.float64, device=values.device)
    if len(values) >= 2 * first:
        values, ranks = values[first - 1 :], ranks[first - 1 :]
    if len(values) < 2:
        return 0.0
    x, y = ranks.log() - ranks.log().mean(), values.log() - values.log().mean()
    return float(-(x @ y) / (x @ x))


def lidar(embeddings: Tensor, delta: float = 1e-4) -> float:
    """LiDAR: effective rank of the linear discriminants that tell images apart by their views.

        exp(entropy(l / sum l)),   l the eigenvalues of  W^-1/2 B W^-1/2,
        B = sum_i (m_i - m)(m_i - m)^T / (n - 1),   W = sum_iv (x_iv - m_i)(x_iv - m_i)^T / (n (q - 1)) + delta I

    Args:
        embeddings: (n, q, d) float, q views of n images, n and q at least 2.
        delta: at least 0.

    Returns:
        In [1, min(n - 1, d)].

    Source: Thilak et al., "LiDAR", ICLR 2024, equations 1 to 4.
    """
    views = embeddings.double()
    means = views.mean(dim=1)  # (n, d)
    between, within = means - means.mean(dim=0), (views - means[:, None]).flatten(0, 1)
    covariance_between = between.T @ between / (len(means) - 1)
    covariance_within = within.T @ within / (len(means) * (views.shape[1] - 1))
    covariance_within.diagonal().add_(delta)
    values, axes = torch.linalg.eigh(covariance_within)
    whiten = axes / values.clamp(min=_TINY).sqrt()  # (d, d)
    return _exp_entropy(torch.linalg.eigvalsh(whiten.T @ covariance_between @ whiten).clamp(min=0))


def alignment(embeddings: Tensor) -> float:
    """Mean squared distance of two views of an image on the unit sphere.

    Args:
        embeddings: (n, q, d) float, q at least 2; their lengths do not count.

    Returns:
        In [0, 4]; 0 where views make no difference.

    Source: Wang and Isola, "Understanding Contrastive Representation Learning", ICML 2020, section 4.1, alpha = 2.
    """
    unit = F.normalize(embeddings.double(), dim=-1)
    views = unit.shape[1]
    cosines = (unit.sum(dim=1).square().sum(dim=1) - views) / (views * (views - 1))  # (n,), mean over pairs
    return float(2 - 2 * cosines.mean())


def uniformity(embeddings: Tensor) -> float:
    """Logarithm of the mean Gaussian potential of pairs of images on the unit sphere.

        ln mean_{i < j} exp(-2 |z_i - z_j|^2)

    Args:
        embeddings: (n, d) float, n at least 2; their lengths do not count.

    Returns:
        In [-8, 0]; lower is more uniform, 0 is a collapse.

    Source: Wang and Isola, ICML 2020, section 4.1, t = 2.
    """
    distances = torch.nn.functional.pdist(F.normalize(embeddings.double(), dim=1))
    return float((-2 * distances.square()).exp().mean().log())


def contrast(embeddings: Tensor, temperature: float = 0.2) -> float:
    """Contrastive loss of all views of all images at once: views of one image attract, all others repel.

    Args:
        embeddings: (n, q, d) float, q at least 2; their lengths do not count.
        temperature: above 0; losses compare at one temperature, number of images and kind of views alone.

    Returns:
        PPCL with an image's views as its group; NT-Xent where q is 2.

    Source: Chen et al., "SimCLR", ICML 2020, equation 1.
    """
    images, views = embeddings.shape[:2]
    unit = F.normalize(embeddings.double().flatten(0, 1), dim=1)  # (n q, d)
    similarity = unit @ unit.T / temperature
    group = torch.arange(images, device=unit.device).repeat_interleave(views)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    positive = (group[:, None] == group) & ~itself
    log_normaliser = similarity.masked_fill(itself, float("-inf")).logsumexp(dim=1)
    return float((log_normaliser - (positive * similarity).sum(dim=1) / (views - 1)).mean())


def cluster_learnability(features: Tensor, seed: int = 0) -> float:
    """How well the nearest neighbour in one half tells the k-means cluster of an image of the other half, in [0, 1].

    Args:
        features: (n, d) float, n at least 4; their lengths do not count. The halves are the first and the last rows.
        seed: of the first centres.

    Source: Lu et al., "Using Representation Expressiveness and Learnability to Evaluate Self-Supervised Learning
        Methods", TMLR 2023, section 3; sqrt(n) clusters.
    """
    unit = F.normalize(features.double(), dim=1)
    clusters = kmeans(unit, max(2, round(len(unit) ** 0.5)), seed)
    half = len(unit) // 2
    nearest = (unit[half:] @ unit[:half].T).argmax(dim=1)
    return float((clusters[:half][nearest] == clusters[half:]).double().mean())


def intrinsic_dimension(features: Tensor) -> float:
    """TwoNN: the dimension of which the distances to the nearest and the second nearest neighbour tell.

        n / sum_i ln(r2_i / r1_i)

    Args:
        features: (n, d) float, n at least 3; an image with a twin does not count.

    Returns:
        Above 0; 0 where no image is without a twin.

    Source: Facco et al., "Estimating the intrinsic dimension of datasets by a minimal neighborhood information",
        Scientific Reports 2017; the maximum of its likelihood.
    """
    nearest = torch.cdist(features.double(), features.double(), compute_mode="donot_use_mm_for_euclid_dist")
    first, second = nearest.fill_diagonal_(float("inf")).topk(2, largest=False).values.unbind(1)  # (n,)
    alone = first > 0
    total = (second[alone] / first[alone]).log().sum()
    return float(alone.sum() / total) if total > 0 else 0.0


def clid(features: Tensor, seed: int = 0) -> float:
    """Cluster learnability plus intrinsic dimension over the number of dimensions.

    Args:
        features: (n, d) float, n at least 4.
        seed: of `cluster_learnability`.

    Source: Lu et al., TMLR 2023, equation 4; the division by d, which makes the two alike in size, is not the paper's.
    """
    return cluster_learnability(features, seed) + intrinsic_dimension(features) / features.shape[1]


def retrieval(features: Tensor) -> float:
    """Share of images, in percent, whose first view is nearest to their own among all images' second views.

    Args:
        features: (n, q, d) float, q at least 2; their lengths do not count.
    """
    first, second, *_ = F.normalize(features.double(), dim=-1).unbind(1)
    own = torch.arange(len(first), device=first.device)
    return 100 * float(((first @ second.T).argmax(dim=1) == own).double().mean())


def _exp_entropy(values: Tensor) -> float:
    """Exponential of the entropy of values at least 0, as shares of their sum."""
    shares = values / values.sum().clamp(min=_TINY)
    return float(torch.special.entr(shares).sum().exp())
