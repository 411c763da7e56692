"""The method section of a configuration: how synthetic images take part."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from synthcl.core.plugin import Section


class MethodConfig(Section):
    """Which parts of the method are on; comparison/arms.py names the useful combinations."""

    frozen: bool = Field(False, description="leave G and D as the warm-up made them")
    pair: bool = Field(True, description="a latent's views are of G(z) and of G_ema(z); else two of G(z)")
    views_per_pair: Literal[2, 4] = Field(
        4, description="views of a pair's latent: two of G(z) and two of G_ema(z), or one of each and twice the latents"
    )
    views_per_image: Literal[2, 4] = Field(2, description="views of a real image; 4 halves the number of real images")
    hardness_unit: Literal["weight", "gradient_ratio"] = Field(
        "gradient_ratio",
        description="hardness weighs the contrastive loss, or sets |its gradient| / |realism's gradient| at the images",
    )

    @property
    def views_per_latent(self) -> int:
        """Views of one latent."""
        return self.views_per_pair if self.pair else 2

    @property
    def views_per_sample(self) -> int:
        """Views of one generated image, G(z) or G_ema(z)."""
        return self.views_per_latent // 2 if self.pair else 2
