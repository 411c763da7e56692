"""The networks of a run and their optimisers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from synthcl.config.schema import Config
from synthcl.core.rng import seed_from
from synthcl.core.updates import begin_anew
from synthcl.method.curriculum.schedule import Schedule
from synthcl.method.encoders.batch_norm import synchronise_batch_norm
from synthcl.method.synthetic.gan.networks import make_discriminator, make_generator


@dataclass
class Networks:
    """The five networks; the GAN's are None in a run without one."""

    encoder: nn.Module
    projector: nn.Module
    generator: nn.Module | None = None
    generator_ema: nn.Module | None = None
    discriminator: nn.Module | None = None


@dataclass
class Optimizers:
    """One optimiser per adversary; G's and D's are None where they do not learn."""

    encoder: torch.optim.Optimizer
    generator: torch.optim.Optimizer | None = None
    discriminator: torch.optim.Optimizer | None = None


RATE_FACTOR = "rate_factor"
"""of a group of parameters: its learning rate over that of the step"""
GanState = dict[str, dict[str, Tensor]]
"""{"generator": state dict of the averaged G, "discriminator": state dict of D}"""
Gans = dict[int, GanState | None]
"""by the seed of a draw of images; None where nothing synthetic is made"""


def make_networks(config: Config, gan: GanState | None, device: torch.device) -> Networks:
    """Build the networks, initialised by the run's seed; G and G_ema both begin as the warmed-up generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_from(config.training.seed, "initialisation"))
        encoder = config.encoder.begin(config.data.channels, config.view_size)
        projector = config.heads["main"].build(cast(int, encoder.feature_dim))
        networks = Networks(encoder, projector)
        if config.needs_gan:
            if gan is None:
                raise ValueError("a run with images of a GAN needs the state of a warmed-up GAN")
            channels, size = config.data.channels, config.gan_image_size
            networks.generator = make_generator(config.gan, channels, size)
            networks.generator_ema = make_generator(config.gan, channels, size).requires_grad_(False)
            networks.discriminator = make_discriminator(config.gan, channels, size)
            networks.generator.load_state_dict(gan["generator"])
            networks.generator_ema.load_state_dict(gan["generator"])
            networks.discriminator.load_state_dict(gan["discriminator"])
    for name, network in vars(networks).items():
        if network is not None:
            network = synchronise_batch_norm(network.to(device, memory_format=torch.channels_last))
            twice = name == "discriminator" and config.gan.gradient_penalty > 0
            if config.training.compile and not twice:
                _compile(network)  # a penalty differentiates D twice, which compiled code cannot
            setattr(networks, name, network)
    return networks


def _compile(network: nn.Module) -> None:
    """With hooks as part of what compiled code is looked up by: an encoder with a style has some, and one without would
    else lend it its own code, in a process that trains one after the other."""
    if torch._dynamo.config.skip_nnmodule_hook_guards:
        torch._dynamo.config.skip_nnmodule_hook_guards = False
        torch.compiler.reset()  # what was compiled until now
    network.compile()


def make_optimizers(config: Config, networks: Networks, others: Iterable[nn.Parameter] = ()) -> Optimizers:
    """AdamW or SGD for encoder and heads (no decay on norms and biases), Adam for G and D unless frozen.

    Args:
        config: the whole configuration.
        networks: of `make_networks`.
        others: parameters of plug-ins, which learn with the encoder.
    """
    training = config.training
    trunk, heads = [*networks.encoder.parameters()], [*networks.projector.parameters(), *others]
    factor = config.encoder.trunk_learning_rate_factor
    rates: list[tuple[list[nn.Parameter], dict[str, float]]] = [([*trunk, *heads], {})]
    if factor != 1:
        rates = [(trunk, {RATE_FACTOR: factor}), (heads, {RATE_FACTOR: 1.0})]
    groups = [
        {"params": [p for p in parameters if (p.ndim > 1) == decays], "weight_decay": decay, **own}
        for parameters, own in rates
        for decays, decay in ((True, training.weight_decay), (False, 0.0))
    ]
    encoder: torch.optim.Optimizer
    if training.optimizer == "adamw":
        encoder = torch.optim.AdamW(groups, training.learning_rate, fused=True)
    else:
        encoder = torch.optim.SGD(groups, training.learning_rate, momentum=training.momentum, fused=True)
    begin_anew(encoder)
    optimizers = Optimizers(encoder)
    if networks.generator is not None and networks.discriminator is not None and not config.gan.frozen:
        gan = config.gan
        betas = (gan.beta1, gan.beta2)

        def adam(network: nn.Module, rate: Schedule) -> torch.optim.Optimizer:
            return torch.optim.Adam(network.parameters(), rate.value_at(0.0), betas, fused=True)  # each step sets it

        optimizers.generator = adam(networks.generator, gan.generator_learning_rate)
        optimizers.discriminator = adam(networks.discriminator, gan.discriminator_learning_rate)
    return optimizers
