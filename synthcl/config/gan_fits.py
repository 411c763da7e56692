"""Whether a GAN's section and the rest of a configuration can be true together."""

from __future__ import annotations

from synthcl.method.curriculum.knobs import CurriculumConfig
from synthcl.method.synthetic.gan.settings import GanConfig


def require_gan_fits(gan: GanConfig, curriculum: CurriculumConfig, batch_images: int) -> None:
    """Refuse a pool that one step would show twice.

    Raises:
        ValueError: naming both fields.
    """
    views = 2 * batch_images * curriculum.synthetic_fraction.bounds[1]
    latents = round(views / gan.views_per_latent)
    if gan.pool is not None and gan.pool < latents:
        raise ValueError(
            f"synthetic.gan.pool {gan.pool} has fewer latents than the {latents} of a step, which must differ; "
            f"raise it to {latents} at least"
        )
