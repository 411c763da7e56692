"""Whether a GAN's section and the rest of a configuration can be true together."""

from __future__ import annotations

from synthcl.method.curriculum.knobs import CurriculumConfig
from synthcl.method.synthetic.gan.settings import GanConfig


def require_gan_fits(gan: GanConfig, curriculum: CurriculumConfig, batch_images: int) -> None:
    """Refuse views stronger than there are, and a pool that one step would show twice.

    Raises:
        ValueError: naming both fields.
    """
    (_, factor), (_, strength) = gan.view_strength_factor.bounds, curriculum.view_strength.bounds
    if factor * strength > 2:
        raise ValueError(
            f"synthetic.gan.view_strength_factor {factor:g} times curriculum.view_strength {strength:g} is "
            f"{factor * strength:g}; views have strengths up to 2"
        )
    views = 2 * batch_images * curriculum.synthetic_fraction.bounds[1]
    latents = round(views / gan.views_per_latent)
    if gan.pool is not None and gan.pool < latents:
        raise ValueError(
            f"synthetic.gan.pool {gan.pool} has fewer latents than the {latents} of a step, which must differ; "
            f"raise it to {latents} at least"
        )
