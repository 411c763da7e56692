"""The trainer: steps, logged points and state; `synthcl.legs` drives it. It knows nothing of Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from synthcl import checkpoint, curriculum, parallel
from synthcl.config import Config
from synthcl.data import ImageSource, epoch_indices, stream
from synthcl.errors import Diverged, UserError
from synthcl.health import Health
from synthcl.joint import Networks, Optimizers, joint_step, make_batch
from synthcl.memory import keep_freed_memory
from synthcl.models.encoder import make_encoder, make_projector
from synthcl.models.gan import make_discriminator, make_generator
from synthcl.models.norm import synchronise_batch_norm
from synthcl.rng import seed_from

Metrics = dict[str, Any]
GanState = dict[str, dict[str, Tensor]]
Pause = Callable[[], bool]
"""asked at every logged point whether to stop there, for a checkpoint"""


def never() -> bool:
    """No reason to pause."""
    return False


class Trainer:
    """Networks, optimisers and counters of one run, and the loop over its steps.

    Args:
        config: the whole configuration.
        images: the unlabelled images; every process fetches its own share of a step.
        gan: `{"generator": state_dict, "discriminator": state_dict}` of the warm-up; None in a real-only run.
        device: where the networks live.

    Raises:
        UserError: when a step needs more real images than there are.
    """

    def __init__(self, config: Config, images: ImageSource, gan: GanState | None, device: torch.device) -> None:
        require_enough_images(config, len(images))
        keep_freed_memory()
        self.config, self.images, self.device = config, images, device
        self.networks = make_networks(config, gan, device)
        self.optimizers = make_optimizers(config, self.networks)
        self.step = 0
        self.real_seen = 0  # the sampler's position: real images given to the encoder by all processes
        self.judged_seen = 0  # likewise for the real images that D judges
        self.rollbacks = 0  # how often the run went back to an earlier state of its own
        self.health = Health(config)
        self.spent_seconds = 0.0  # of wall time in all legs so far

    @property
    def images_seen(self) -> int:
        """Images so far, over all processes; one image is two encoded views."""
        return self.step * self.config.training.batch_images

    def advance(self, until_step: int, pause: Pause = never) -> list[Metrics]:
        """Train up to a step, or to the first logged point at which `pause` is true in any process.

        Returns:
            One dict for each logged point: means since the last one, the images seen and the knobs.

        Raises:
            Diverged: when the run has failed, as `health` says; with the points that were logged until then.
        """
        log_steps = max(1, round(1000 * self.config.training.log_kimg / self.config.training.batch_images))
        history: list[Metrics] = []
        pending: list[dict[str, Tensor]] = []
        self._set_training_mode()
        for images in stream(self.images, self._plan(until_step), self.config.data.loader_workers):
            progress = self.step / self.config.training.steps
            knobs, mix = self._knobs(progress), curriculum.mix(self.config, progress)
            own_real = mix.real // parallel.world_size()
            batch = make_batch(self.config, knobs, mix, self.step, images[:own_real], images[own_real:], self.device)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.training.precision == "bf16"):
                pending.append(joint_step(self.networks, self.optimizers, batch, knobs, self.config))
            self.step += 1
            self.real_seen += mix.real
            self.judged_seen += mix.latents if self.optimizers.discriminator else 0

            if self.step % log_steps == 0 or self.step == until_step:
                point = self._logged(pending, knobs)
                pending.clear()
                try:
                    self.health.observe(point, self.step)
                except Diverged as failure:
                    failure.history = tuple(history)
                    raise
                history.append(point)
                if parallel.anywhere(pause(), self.device):
                    break
        return history

    def _plan(self, until_step: int) -> Iterator[Tensor]:
        """Indices of the real images of each coming step: this process's for the encoder, then for D."""
        seed, count = self.config.training.seed, len(self.images)
        real_seen, judged_seen = self.real_seen, self.judged_seen
        for step in range(self.step, until_step):
            mix = curriculum.mix(self.config, step / self.config.training.steps)
            judged = mix.latents if self.optimizers.discriminator else 0
            real_indices = epoch_indices(count, real_seen, mix.real, seed, "real")[parallel.rows(mix.real)]
            judged_indices = epoch_indices(count, judged_seen, judged, seed, "judged")[parallel.rows(judged)]
            yield torch.cat([real_indices, judged_indices])
            real_seen += mix.real
            judged_seen += judged

    def _knobs(self, progress: float) -> curriculum.Knobs:
        knobs = curriculum.knobs(self.config, progress)
        return knobs._replace(learning_rate=knobs.learning_rate * self.rate)

    def _set_training_mode(self) -> None:
        for network in vars(self.networks).values():
            if network is not None:
                network.train()

    def _logged(self, pending: list[dict[str, Tensor]], knobs: curriculum.Knobs) -> Metrics:
        names = sorted({name for statistics in pending for name in statistics})
        means = torch.stack([torch.stack([s[name].float() for s in pending if name in s]).mean() for name in names])
        values = dict(zip(names, parallel.mean(means).tolist(), strict=True))  # the only wait for the device
        knob = {f"knob/{name}": value for name, value in knobs._asdict().items()}
        for name in ("generator", "discriminator"):
            if optimizer := getattr(self.optimizers, name):
                knob[f"knob/{name}_learning_rate"] = optimizer.param_groups[0]["lr"]
        return {"images": self.images_seen, **values, **knob}

    @torch.no_grad()
    def samples(self, latents: int = 8) -> Tensor | None:
        """G(z) over G_ema(z) for the same fixed latents of the run.

        Returns:
            (2, latents, C, h, w) float in [0, 1] on the CPU, or None in a real-only run.
        """
        generator, slow = self.networks.generator, self.networks.generator_ema
        if generator is None or slow is None:
            return None
        z = torch.randn(latents, self.config.gan.latent_dim, generator=checkpoint.sample_generator(self.config))
        return torch.stack([network.eval()(z.to(self.device)).float().cpu() for network in (generator, slow)])

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs (random numbers are functions of the seed and the step)."""
        return {
            "step": self.step,
            "real_seen": self.real_seen,
            "judged_seen": self.judged_seen,
            "rollbacks": self.rollbacks,
            "health": self.health.state_dict(),
            "networks": {name: net.state_dict() for name, net in vars(self.networks).items() if net is not None},
            "optimizers": {name: opt.state_dict() for name, opt in vars(self.optimizers).items() if opt is not None},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`; learning rates are the config's, less what rollbacks took, not the state's."""
        for name, network in vars(self.networks).items():
            if network is not None:
                network.load_state_dict(state["networks"][name])
        for name, optimizer in vars(self.optimizers).items():
            if optimizer is not None:
                optimizer.load_state_dict(state["optimizers"][name])
        self.step, self.real_seen, self.judged_seen = state["step"], state["real_seen"], state["judged_seen"]
        self.rollbacks = state.get("rollbacks", 0)
        self.health.load_state_dict(state.get("health", {}))
        self._set_rates()

    def _set_rates(self) -> None:
        gan = self.config.gan
        rates = {
            "encoder": self.config.training.learning_rate,
            "generator": gan.generator_learning_rate,
            "discriminator": gan.discriminator_learning_rate,
        }
        for name, rate in rates.items():
            for group in optimizer.param_groups if (optimizer := getattr(self.optimizers, name)) else ():
                group["lr"] = rate * self.rate

    @property
    def rate(self) -> float:
        """All learning rates over the configured ones: 1 until the run goes back."""
        return self.config.health.rollback_rate**self.rollbacks

    def go_back(self, good: dict[str, Any]) -> None:
        """Continue from an earlier state of this run, with lower learning rates.

        Args:
            good: its `state_dict`.
        """
        rollbacks = self.rollbacks + 1
        self.load_state_dict(good | {"rollbacks": rollbacks})

    def require_finite(self) -> None:
        """Refuse weights that no later step can mend.

        Raises:
            Diverged: naming the network.
        """
        for name, network in vars(self.networks).items():
            weights = [] if network is None else list(network.parameters())
            if weights and not torch.stack([weight.isfinite().all() for weight in weights]).all():
                raise Diverged(f"weights of the {name} became NaN or infinite by step {self.step}")

    def save(self, folder: Path, report: Metrics | None = None) -> None:
        """Write `checkpoint.pt` and, where there is a generator, `samples.png` into a folder.

        Args:
            folder: made if missing.
            report: of the leg that ends here, kept beside the state; plain values.
        """
        checkpoint.save(folder, self.config, self.state_dict(), self.samples(), report)

    def load(self, folder: Path) -> Metrics | None:
        """Continue from a checkpoint's folder.

        Returns:
            The report that was saved with it.

        Raises:
            UserError: when the checkpoint is unreadable, foreign or of another configuration.
        """
        state = checkpoint.load(folder, self.device)
        checkpoint.require_same_run(state, self.config, folder)
        self.load_state_dict(state["trainer"])
        report: Metrics | None = state.get("report")
        self.spent_seconds = report["seconds"] if report else 0.0
        return report


def make_networks(config: Config, gan: GanState | None, device: torch.device) -> Networks:
    """Build the networks, initialised by the run's seed; G and G_ema both begin as the warmed-up generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_from(config.training.seed, "initialisation"))
        encoder = make_encoder(config.encoder, config.data.channels)
        projector = make_projector(config.encoder, encoder)
        networks = Networks(encoder, projector)
        if not curriculum.is_real_only(config):
            if gan is None:
                raise ValueError("a run with synthetic views needs the state of a warmed-up GAN")
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
            if config.training.compile and not (name == "discriminator" and config.gan.gradient_penalty > 0):
                network.compile()  # a penalty differentiates D twice, which compiled code cannot
            setattr(networks, name, network)
    return networks


def make_optimizers(config: Config, networks: Networks) -> Optimizers:
    """AdamW or SGD for encoder and projector (no decay on norms and biases), Adam for G and D unless frozen."""
    training, gan = config.training, config.gan
    parameters = [*networks.encoder.parameters(), *networks.projector.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": training.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    encoder: torch.optim.Optimizer
    if training.optimizer == "adamw":
        encoder = torch.optim.AdamW(groups, training.learning_rate, fused=True)
    else:
        encoder = torch.optim.SGD(groups, training.learning_rate, momentum=training.momentum, fused=True)
    optimizers = Optimizers(encoder)
    if networks.generator is not None and networks.discriminator is not None and not config.method.frozen:
        betas = (gan.beta1, gan.beta2)

        def adam(network: nn.Module, rate: float) -> torch.optim.Optimizer:
            return torch.optim.Adam(network.parameters(), rate, betas, fused=True)

        optimizers.generator = adam(networks.generator, gan.generator_learning_rate)
        optimizers.discriminator = adam(networks.discriminator, gan.discriminator_learning_rate)
    return optimizers


def require_enough_images(config: Config, available: int) -> None:
    """Refuse a data set smaller than the real part of a step.

    Raises:
        UserError: naming both numbers.
    """
    rungs = (0.0, *config.evaluation.rungs)
    needed = max(curriculum.mix(config, progress).real for progress in rungs)
    if available < needed:
        raise UserError(
            f"data.source {config.data.source!r} gives {available} unlabelled images, fewer than the {needed} "
            f"of a step; lower training.batch_images to at most {available} or raise data.image_fraction"
        )
