"""The section of a GAN that makes the synthetic images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from synthcl.core.plugin import Count, Fraction, GroupSize, Positive, Section
from synthcl.method.curriculum import AnySchedule
from synthcl.method.curriculum.ramps import Constant
from synthcl.method.curriculum.schedule import Within

if TYPE_CHECKING:
    from synthcl.method.synthetic.gan.source import Gan, GanNetworks

Rate = Annotated[AnySchedule, Within(gt=0)]
Walk = Annotated[AnySchedule, Within(ge=0, le=1)]
Temperature = Annotated[AnySchedule, Within(ge=1e-3)]
Share = Annotated[AnySchedule, Within(ge=0, le=2)]


class GanConfig(Section):
    """A generator G with its slow copy G_ema, and the discriminator D; comparison/arms.py has useful combinations."""

    kind: Literal["gan"] = "gan"
    frozen: bool = Field(False, description="leave G and D as the warm-up made them")
    pair: bool = Field(True, description="a latent's views are of G(z) and of G_ema(z); else of G(z)")
    views_per_pair: Literal[2, 4, 6, 8] = Field(
        4,
        description="views of a pair's latent, half of them of G(z) and half of G_ema(z); fewer views, more latents",
    )
    views_per_image: GroupSize = Field(2, description="views of a latent without a pair, all of G(z)")
    walk: Walk = Field(
        Constant(start=0.0), description="how far the latent of G_ema's image lies from that of G's; 1 is another one"
    )
    pool: int | None = Field(
        None, ge=1, description="latents of the whole run, shown in shuffled epochs; none draws new ones at every step"
    )
    candidates: Count = Field(
        1, description="latents drawn for every one that is shown, of which one is kept by D's logit; 1 keeps all"
    )
    candidates_temperature: Temperature = Field(
        Constant(start=1.0),
        description="one is kept in proportion to e^(logit / temperature): near 0 the most real, a large one any",
    )
    view_strength_factor: AnySchedule = Field(
        Constant(start=1.0), description="strength of the views of its images, over curriculum.view_strength"
    )
    hardness_unit: Literal["weight", "gradient_ratio"] = Field(
        "gradient_ratio",
        description="hardness weighs the contrastive loss, or sets |its gradient| / |realism's gradient| at the images",
    )
    teacher: Share = Field(
        Constant(start=0.0),
        description="G ascends the encoder's loss less so many times the slow encoder's, as "
        "training.slow_half_life_kimg has it: hard, and still to be recognised; 0 sets no bound",
    )
    latent_dim: Count = Field(64, description="dimensions of the Gaussian latent z")
    generator_width: Count = Field(8, description="channels of G at full resolution; doubled at each halving, up to 8x")
    discriminator_width: Count = Field(16, description="channels of D at half resolution; doubled likewise")
    generator: str | None = Field(None, description="'module:callable' giving your own forward(z) -> images in [0, 1]")
    image_size: int | None = Field(None, ge=8, le=128, description="pixels G makes; none means data.image_size")
    loss: Literal["hinge", "relativistic"] = Field("hinge", description="adversarial loss")
    spectral_norm: bool = Field(True, description="spectral normalisation of D (Miyato et al. 2018)")
    gradient_penalty: float = Field(0.0, ge=0, description="weight of R1 (hinge) or R1 + R2 (relativistic)")
    penalty_every: Count = Field(
        1,
        description="of the joint training's steps, one in so many has the gradient penalty, as many times as strong",
    )
    augment_strength: Fraction = Field(0.2, description="strength of the differentiable augmentation D looks through")
    generator_learning_rate: Rate = Field(
        Constant(start=1e-3), description="in the joint training; the warm-up has its own"
    )
    discriminator_learning_rate: Rate = Field(
        Constant(start=1e-3), description="in the joint training; the warm-up has its own"
    )
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
    warmup_generator_learning_rate: Positive = Field(4e-3, description="in the warm-up, constant")
    warmup_discriminator_learning_rate: Positive = Field(4e-3, description="in the warm-up, constant")
    warmup_penalty_every: Count = Field(1, description="as penalty_every, in the warm-up")

    @model_validator(mode="after")
    def _a_walk_has_a_second_image(self) -> GanConfig:
        if self.walk.bounds[1] > 0 and not self.pair:
            raise ValueError(f"walk goes up to {self.walk.bounds[1]:g}, and without a pair there is no second image")
        return self

    @model_validator(mode="after")
    def _a_pool_shows_all_its_latents(self) -> GanConfig:
        if self.candidates > 1 and self.pool is not None:
            raise ValueError(
                f"candidates {self.candidates} chooses among new latents, and pool {self.pool} shows every latent "
                "equally often; leave one of them out"
            )
        return self

    def penalty_at(self, step: int, warmup: bool = False) -> float:
        """Weight of the gradient penalty at a step of the joint training, or of the warm-up.

        Lazy regularisation: over `penalty_every` steps the weights add up to as much as the penalty of every step.

        Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, section 3.1.

        Example:
            >>> gan = GanConfig(gradient_penalty=2.0, penalty_every=4)
            >>> [gan.penalty_at(step) for step in range(6)]
            [8.0, 0.0, 0.0, 0.0, 8.0, 0.0]
        """
        every = self.warmup_penalty_every if warmup else self.penalty_every
        return self.gradient_penalty * every if step % every == 0 else 0.0

    @property
    def portion(self) -> float:
        """Of the synthetic views: what the portions of other sources are measured by."""
        return 1.0

    @property
    def attached(self) -> bool:
        """Whether its views join the groups of real images: a latent has a group of its own."""
        return False

    @property
    def views_per_latent(self) -> int:
        """Views of one latent."""
        return self.views_per_pair if self.pair else self.views_per_image

    @property
    def views_per_group(self) -> int:
        """Views that share a group: those of one latent."""
        return self.views_per_latent

    @property
    def views_per_sample(self) -> int:
        """Views of one generated image, G(z) or G_ema(z)."""
        return self.views_per_latent // 2 if self.pair else self.views_per_latent

    @property
    def needs_slow(self) -> bool:
        """Whether a slow encoder bounds, at some step, how hard G makes its images."""
        return not self.frozen and self.teacher.bounds[1] > 0

    def warmup_reads(self) -> dict[str, Any]:
        """The fields that decide what the warm-up makes, by name: its cached GAN goes by them."""
        lazy = {"warmup_penalty_every"} if self.warmup_penalty_every > 1 else set()  # else keys are those of before it
        return self.model_dump(mode="json", include=_WARMUP_READS | lazy)

    def build(self, name: str, networks: GanNetworks) -> Gan:
        """The source of synthetic images that these networks are."""
        from synthcl.method.synthetic.gan.source import Gan  # which knows this section

        return Gan(name, self, networks)


_WARMUP_READS = {
    "latent_dim",
    "generator_width",
    "discriminator_width",
    "generator",
    "image_size",
    "loss",
    "spectral_norm",
    "gradient_penalty",
    "augment_strength",
    "beta1",
    "beta2",
    "warmup_kimg",
    "warmup_passes_max",
    "warmup_batch_images",
    "warmup_half_life_kimg",
    "warmup_generator_learning_rate",
    "warmup_discriminator_learning_rate",
}
"""a new field enters it only if the warm-up reads it: else every cached GAN would be made anew"""
