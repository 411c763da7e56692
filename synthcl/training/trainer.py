"""The trainer: steps, logged points and state; `synthcl.training.loop` drives it. It knows nothing of Ray."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from synthcl.config.mixture import first_shares
from synthcl.config.schema import Config
from synthcl.core import distributed, rng
from synthcl.core.device import resize
from synthcl.core.errors import Diverged
from synthcl.core.malloc import keep_freed_memory
from synthcl.core.report import Point
from synthcl.core.updates import begin_anew
from synthcl.data import ImageSource, ResidentImages, SyntheticImages
from synthcl.method.curriculum.balance import Balance
from synthcl.method.curriculum.bandit import State
from synthcl.method.curriculum.knobs import Knobs
from synthcl.training.batch import Fetched, make_batch
from synthcl.training.clusters import clusters_of
from synthcl.training.health import Health
from synthcl.training.lab import Lab
from synthcl.training.networks import GanState, Networks, Optimizers
from synthcl.training.plan import Images, Planned, Seen, advance, require_given
from synthcl.training.step import joint_step

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
        gan: `{"generator": state_dict, "discriminator": state_dict}` of the warm-up; None where no GAN is needed.
        device: where the networks live.
        folders: images of every source that is a folder, by name.
        targets: (images, dim) of every term with a teacher, by name: its features of the unlabelled images.

    Raises:
        UserError: when a step needs more real images than there are.
    """

    def __init__(
        self,
        config: Config,
        images: ImageSource,
        gan: GanState | None,
        device: torch.device,
        folders: Mapping[str, SyntheticImages] = MappingProxyType({}),
        targets: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> None:
        require_given(config, images, folders, targets)
        keep_freed_memory()
        self.config, self.images, self.device = config, images, device
        self.shown = Images(images, {name: folders[name] for name in config.folders_on})
        self.lab = Lab(config, gan, device, targets)
        self.step = 0
        self.seen = Seen()  # positions of the samplers
        self.steered: dict[str, float] = {}  # what closed loops have decided, by the field that each steers
        self.steered_at = 0  # the step of their last decision
        self.shares = first_shares(config) if config.bandit else None  # of a step's views, by arm
        self.bandit: State = {}  # what it remembers
        self.rollbacks = 0  # how often the run went back to an earlier state of its own
        self.health = Health(config)
        self.spent_seconds = 0.0  # of wall time in all legs so far
        self.scoring_seconds = 0.0  # of them

    @property
    def networks(self) -> Networks:
        return self.lab.networks

    @property
    def optimizers(self) -> Optimizers:
        return self.lab.optimizers

    @property
    def images_seen(self) -> int:
        """Images so far, over all processes; one image is two encoded views."""
        return self.step * self.config.training.batch_images

    def advance(self, until_step: int, pause: Pause = never) -> list[Point]:
        """Train up to a step, or to the first logged point at which `pause` is true in any process.

        Returns:
            One dict for each logged point: means since the last one, the images seen and the knobs.

        Raises:
            Diverged: when the run has failed, as `health` says; with the points that were logged until then.
        """
        log_steps = max(1, round(1000 * self.config.training.log_kimg / self.config.training.batch_images))
        history: list[Point] = []
        pending: list[dict[str, Tensor]] = []
        self._set_training_mode()
        for planned, images, fetched in self._coming(until_step, log_steps):
            progress = self.step / self.config.training.steps
            if self.step == self.config.training.restart_step:
                begin_anew(self.optimizers.encoder)  # again where a checkpoint of just before it is continued
            knobs, mix = self._knobs(progress), self.config.mix_at(progress, self.shares)
            batch = make_batch(
                images,
                planned.real,
                mix,
                knobs,
                views=self.lab.views,
                sources=self.lab.sources,
                style=self.lab.style,
                fetched=fetched,
                views_per_image=self.config.training.views_per_image,
                seed=self.config.training.seed,
                step=self.step,
                device=self.device,
            )
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.training.precision == "bf16"):
                pending.append(joint_step(self.lab, batch, knobs))
            self.step += 1
            advance(self.seen, self.lab.sources, mix)

            if self.step % log_steps == 0 or self.step == until_step:
                point = self._logged(pending, knobs)
                pending.clear()
                self._steer(point)
                try:
                    self.health.observe(point, self.step)
                except Diverged as failure:
                    failure.history = tuple(history)
                    raise
                history.append(point)
                if distributed.anywhere(pause(), self.device):
                    break
        return history

    def _coming(self, until_step: int, log_steps: int) -> Iterator[tuple[Planned, Tensor, dict[str, Fetched]]]:
        """What the coming steps show, planned up to where a bandit decides, at logged points, or clusters are made."""
        balanced = self.config.curriculum.balance.first_step(self.config.training.steps)
        while self.step < until_step:
            ends = [until_step]
            if self.config.bandit:
                ends.append((self.step // log_steps + 1) * log_steps)
            if balanced is not None and self.step < balanced:
                ends.append(balanced)
            elif balanced is not None and self.shown.balance is None:
                self._balance(clusters_of(self.lab.encoder, self.images, self.config))
            steps = range(self.step, min(ends))
            plan = self.shown.plan(self.config, self.lab.sources, self.seen, steps, self.shares)
            yield from self.shown.stream(plan, self.config.data.loader_workers)

    def _balance(self, clusters: Tensor | None) -> None:
        """Show clusters evenly; None goes back to where there were none."""
        strength = self.config.curriculum.balance.strength
        balance = Balance(clusters, strength) if clusters is not None and strength > 0 else None
        self.shown = self.shown._replace(balance=balance)

    def _knobs(self, progress: float) -> Knobs:
        return self.config.knobs_at(progress, self.steered, self.shares).slowed(self.rate)

    def _steer(self, point: Point) -> None:
        """Let closed loops decide the values from the next step on; without their measurement they leave them."""
        steps = self.step - self.steered_at
        progress, since = (number / self.config.training.steps for number in (self.step, steps))
        for path, loop in self.config.closed_loops.items():
            if loop.measured in point:
                value = self.steered.get(path, loop.start)
                self.steered[path] = loop.decide(value, progress, since, point[loop.measured], steps)
        if self.config.bandit and self.shares:
            rewards = [point.get(f"reward/{arm}", math.nan) for arm in self.shares]
            agreed = dict(zip(self.shares, distributed.of_first(rewards, self.device), strict=True))
            measured = {arm: reward for arm, reward in agreed.items() if math.isfinite(reward)}
            self.shares, self.bandit = self.config.bandit.decide(self.shares, measured, steps, self.bandit)
        self.steered_at = self.step

    def _set_training_mode(self) -> None:
        for network in self.lab.modules():
            network.train()

    def _logged(self, pending: list[dict[str, Tensor]], knobs: Knobs) -> Point:
        names = sorted({name for statistics in pending for name in statistics})
        means = torch.stack([torch.stack([s[name].float() for s in pending if name in s]).mean() for name in names])
        values = dict(zip(names, distributed.mean(means).tolist(), strict=True))  # the only wait for the device
        knob = {f"knob/{name}": value for name, value in knobs._asdict().items() if name != "scheduled"}
        knob |= {f"knob/mix.{arm}": share for arm, share in (self.shares or {}).items()}
        moving = self.config.ramps_of_plugins  # rates of the GAN are logged below, in all runs
        ramps = [path for path in moving if not path.startswith("synthetic.gan.") or not path.endswith("learning_rate")]
        knob |= {f"knob/{path}": knobs.scheduled[path] for path in ramps}
        for name in ("generator", "discriminator"):
            if optimizer := getattr(self.optimizers, name):
                knob[f"knob/{name}_learning_rate"] = optimizer.param_groups[0]["lr"]
        of_clusters = self.shown.balance.measures if self.shown.balance else {}
        return {"images": self.images_seen, **values, **of_clusters, **knob}

    @torch.no_grad()
    def samples(self, latents: int = 8) -> Tensor | None:
        """G(z) over G_ema(z) for the same fixed latents of the run.

        Returns:
            (2, latents, C, h, w) float in [0, 1] on the CPU, or None of a run without a GAN.
        """
        generator, slow = self.networks.generator, self.networks.generator_ema
        if generator is None or slow is None:
            return None
        z = torch.randn(latents, self.config.gan.latent_dim, generator=sample_generator(self.config))
        return torch.stack([network.eval()(z.to(self.device)).float().cpu() for network in (generator, slow)])

    @torch.no_grad()
    def synthetic_images(self, count: int) -> dict[str, ImageSource]:
        """Images of every source of synthetic ones by name.

        Args:
            count: images of G to make, of latents that are the same at every call and in no step; a folder's are all
                that it shows.

        Returns:
            uint8 images, those of G rounded to as many levels as real ones have.
        """
        sources: dict[str, ImageSource] = {
            name: self.shown.folders[name].images
            for name, section in self.config.folders_on.items()
            if not (section.attached and section.twins == "none")  # where real images stand in
        }
        if (generator := self.networks.generator) is not None:
            source = rng.generator(self.config.data.split_seed, "origin latents")
            latents = torch.randn(count, self.config.gan.latent_dim, generator=source)
            made = [generator.eval()(z.to(self.device)) for z in latents.split(self.config.evaluation.batch_images)]
            pixels = resize(torch.cat(made).float(), self.config.data.image_size)
            sources["gan"] = ResidentImages((255 * pixels).round().clamp(0, 255).to(torch.uint8), self.device)
        return sources

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs (random numbers are functions of the seed and the step)."""
        state = {
            "step": self.step,
            **self.seen.state_dict(),
            "rollbacks": self.rollbacks,
            "health": self.health.state_dict(),
        }
        if self.config.decides_at_logged_points:
            state["steered"] = {"at": self.steered_at, "values": {**self.steered}}
        if self.shares:
            state["mix"] = {"shares": {**self.shares}, "bandit": {**self.bandit}}
        if self.shown.balance:
            state["clusters"] = self.shown.balance.clusters.to(torch.int16)
        return state | self.lab.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`; each step sets learning rates, the config's less what rollbacks took."""
        self.lab.load_state_dict(state)
        self.step, self.seen = state["step"], Seen.of(state)
        self.rollbacks = state.get("rollbacks", 0)
        self.health.load_state_dict(state.get("health", {}))
        steered = state.get("steered", {"at": self.step, "values": {}})
        self.steered_at, self.steered = steered["at"], {**steered["values"]}
        if self.shares and "mix" in state:
            self.shares, self.bandit = {**state["mix"]["shares"]}, {**state["mix"]["bandit"]}
        clusters = state.get("clusters")
        self._balance(None if clusters is None else clusters.cpu().long())

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


def sample_generator(config: Config) -> torch.Generator:
    """Random numbers of the latents shown in sample grids: the same at every checkpoint of a seed."""
    return rng.generator(config.training.seed, "samples")
