"""The GAN section of a configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from synthcl.core.plugin import Count, Fraction, Positive, Section


class GanConfig(Section):
    latent_dim: Count = Field(64, description="dimensions of the Gaussian latent z")
    generator_width: Count = Field(8, description="channels of G at full resolution; doubled at each halving, up to 8x")
    discriminator_width: Count = Field(16, description="channels of D at half resolution; doubled likewise")
    generator: str | None = Field(None, description="'module:callable' giving your own forward(z) -> images in [0, 1]")
    image_size: int | None = Field(None, ge=8, le=128, description="pixels G makes; none means data.image_size")
    loss: Literal["hinge", "relativistic"] = Field("hinge", description="adversarial loss")
    spectral_norm: bool = Field(True, description="spectral normalisation of D (Miyato et al. 2018)")
    gradient_penalty: float = Field(0.0, ge=0, description="weight of R1 (hinge) or R1 + R2 (relativistic)")
    augment_strength: Fraction = Field(0.2, description="strength of the differentiable augmentation D looks through")
    generator_learning_rate: Positive = Field(1e-3, description="in the joint training")
    discriminator_learning_rate: Positive = Field(1e-3, description="in the joint training")
    beta1: float = Field(0.0, ge=0, lt=1, description="Adam's first moment decay, both networks")
    beta2: float = Field(0.99, ge=0, lt=1, description="Adam's second moment decay, both networks")
    warmup_kimg: float = Field(120.0, ge=0, description="thousand real images D sees before the joint training")
    warmup_passes_max: float | None = Field(
        None,
        gt=0,
        description="the warm-up ends after so many passes over the unlabelled images; none sets no limit",
    )
    warmup_batch_images: Count = Field(64, description="images a step of the warm-up")
    warmup_half_life_kimg: Positive = Field(5.0, description="half-life of the averaged generator of the warm-up")
    warmup_generator_learning_rate: Positive = 4e-3
    warmup_discriminator_learning_rate: Positive = 4e-3


JOINT_ONLY = {"generator_learning_rate", "discriminator_learning_rate"}
"""fields that the warm-up does not read"""
