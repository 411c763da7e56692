"""What a training step must compute, counted: floating-point operations and bytes of each network.

The encoder runs forward and backward over all views, with a gradient to its input for the views of G's images alone.
G runs forward and backward, G_ema forward. D runs forward and backward on real and generated images for its own
update, and forward and back to the generated images, without gradients to its weights, for G's. A gradient penalty
counts where the configuration has one, in as many steps as have it. The loss, the views, the optimisers and the
averaging count as nothing.
"""

import copy
import itertools
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from synthcl.comparison.arms import apply_arm
from synthcl.config.schema import Config
from synthcl.core.device import normalise
from synthcl.core.work import Work, count
from synthcl.data import ResidentImages
from synthcl.method.synthetic.gan.diffaugment import Augmented
from synthcl.method.synthetic.gan.networks import make_discriminator, make_generator
from synthcl.method.synthetic.gan.objectives import discriminator_objective, generator_objective
from synthcl.training.networks import Networks
from synthcl.training.trainer import Trainer


def passes(trainer: Trainer, device: torch.device | str) -> tuple[Networks, dict[str, Callable[[], object]]]:
    """The passes through its networks that a trainer's step cannot do without, at half of its budget.

    Returns:
        Copies of the networks, and of their passes `E` with and `E alone` without a gradient to G's images, and as
        far as the arm has them `G`, `G_ema`, `D` and `G through D`.
    """
    config = trainer.config
    mix, channels = config.mix_at(0.5), config.data.channels
    copies = {name: copy.deepcopy(net).to(device) for name, net in vars(trainer.networks).items() if net is not None}
    networks = Networks(**copies)
    learns = networks.generator is not None and not config.gan.frozen

    def images(number: int, size: int) -> Tensor:
        return torch.rand(number, channels, size, size, device=device)

    def encode(to_images: bool) -> Callable[[], object]:
        views = 2 * config.training.batch_images
        of_generator = config.gan.views_per_sample * mix.latents if to_images else 0
        seen = [normalise(images(views - of_generator, config.view_size))]
        if to_images:
            seen.append(normalise(images(of_generator, config.view_size)).requires_grad_())
        return lambda: networks.projector(networks.encoder(seen)).sum().backward()

    calls = {"E alone": encode(to_images=False), "E": encode(to_images=learns)}
    if networks.generator is None or networks.generator_ema is None:
        return networks, calls
    generator, average = networks.generator, networks.generator_ema
    latents = torch.randn(mix.latents, config.gan.latent_dim, device=device)
    if config.gan.frozen:
        return networks, calls | {"G": lambda: without_gradient(generator, latents)}
    calls["G"] = lambda: generator(latents).sum().backward()
    if config.gan.pair:
        calls["G_ema"] = lambda: without_gradient(average, latents)
    augmented = Augmented(images(mix.latents, config.gan_image_size), images(mix.latents, config.gan_image_size))
    augmented.fake.requires_grad_()
    discriminator = networks.discriminator
    assert discriminator is not None

    weights = (config.gan.penalty_at(step) for step in itertools.count())
    calls["D"] = lambda: discriminator_objective(discriminator, augmented, config.gan, next(weights))[0].backward()
    calls["G through D"] = lambda: generator_objective(discriminator, augmented, config.gan).backward()
    return networks, calls


@torch.no_grad()
def without_gradient(network: Callable[[Tensor], Tensor], latents: Tensor) -> None:
    network(latents)


def parts(trainer: Trainer) -> dict[str, Work]:
    """What each of the `passes` of a trainer's step computes; the mean of the steps from one penalty to the next."""
    _, calls = passes(trainer, "meta")
    steps = trainer.config.gan.penalty_every
    whole = {name: total([count(call) for _ in range(steps)]) for name, call in calls.items()}
    return {name: Work(work.flops // steps, work.bytes // steps) for name, work in whole.items()}


def networks_alone(trainer: Trainer) -> Callable[[], object]:
    """All the `passes` of a step, one after the other."""
    networks, calls = passes(trainer, trainer.device)
    del calls["E alone"]

    def run() -> None:
        for network in vars(networks).values():
            if network is not None:
                network.zero_grad(set_to_none=True)
        with torch.autocast(trainer.device.type, torch.bfloat16, enabled=trainer.config.training.precision == "bf16"):
            for call in calls.values():
                call()

    return run


def of_step(work: dict[str, Work]) -> Work:
    """A whole step's."""
    return total(part for name, part in work.items() if name != "E alone")


def total(work: Iterable[Work]) -> Work:
    return sum(work, Work())


def over_real_only(work: dict[str, Work]) -> float:
    """Floating-point operations of a step over those of a real-only step with as many views."""
    return of_step(work).flops / work["E alone"].flops


def make_trainer(config: Config, arm: str, device: torch.device) -> Trainer:
    """A trainer on random resident images with an untrained GAN: a step's time depends on neither.

    Args:
        config: its hardness is made constant, so that G takes part in every step.
        arm: of `synthcl.comparison.arms`.
        device: of networks and images.
    """
    hardness = {"curriculum.hardness": {"kind": "constant", "start": 0.5}, "training.kimg": 1e6}
    config = apply_arm(config.with_overrides(hardness), arm)
    needed = 2 * config.training.batch_images
    size = (max(1024, needed), config.data.channels, config.data.image_size, config.data.image_size)
    pixels = torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    gan = None
    if not config.is_real_only:
        makers = {"generator": make_generator, "discriminator": make_discriminator}
        gan = {
            name: make(config.gan, config.data.channels, config.gan_image_size).state_dict()
            for name, make in makers.items()
        }
    return Trainer(config, ResidentImages(pixels.to(device), device), gan, device)


def finite(trainer: Trainer) -> bool:
    """Whether the last step left the encoder with finite weights: a step that diverged may be another work."""
    return all(math.isfinite(weight.sum().item()) for weight in trainer.networks.encoder.parameters())
