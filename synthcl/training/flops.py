"""Floating-point operations of a run and of its warm-up, counted on their own steps without computing them.

A step is run once on fake tensors, which have shapes and no numbers: no time of a device, no memory for activations.
What counts is what `torch.utils.flop_counter` knows, convolutions and products of matrices, forward and backward, two
operations a multiplication and addition. Views count as a CPU makes them without blur; scoring counts as nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from synthcl.config.compatibility import LEARNED
from synthcl.config.schema import Config
from synthcl.config.sections import DataConfig
from synthcl.core.work import count
from synthcl.method.synthetic.gan.settings import GanConfig
from synthcl.training.batch import Fetched, make_batch
from synthcl.training.gan_warmup import GanWarmUp, budget_kimg, warmup_networks
from synthcl.training.lab import Lab
from synthcl.training.plan import read_by_sources
from synthcl.training.step import joint_step

_CPU = torch.device("cpu")


def training_flops(config: Config) -> int | None:
    """Floating-point operations of all steps of a run, over all its workers.

    Steps differ in how many latents they have, which may be a schedule; between the fewest and the most, their
    operations grow by the same number a latent. They also differ in whether they have the gradient penalty.

    Args:
        config: of the run.

    Returns:
        None where a step cannot be run on fake tensors, as code of the user's own may ask for numbers.
    """
    try:
        return _training_flops(_of_same_cost(config))
    except Exception:  # code of the user's own, asked for what fake tensors do not have, can raise anything
        return None


def warmup_flops(config: Config, available_images: int) -> int | None:
    """Floating-point operations of the GAN warm-up that a run begins with; 0 without a GAN.

    Args:
        config: of the run.
        available_images: number of unlabelled images.

    Returns:
        None as for `training_flops`.
    """
    if not config.needs_gan:
        return 0
    gan = GanConfig(**config.gan.warmup_reads())
    one = _warmup_step_flops(Config(name="one-step", data=_shape(config), synthetic={"gan": gan}))
    steps = round(1000 * budget_kimg(config.gan, available_images) / config.gan.warmup_batch_images)
    penalised = -(-steps // config.gan.warmup_penalty_every)
    return None if one is None else penalised * one[0] + (steps - penalised) * one[1]


def shown(flops: float | None) -> str:
    """Four digits and a prefix, a dash for None.

    Example:
        >>> shown(1.0412e12), shown(0), shown(None)
        ('1.041 T', '0', '-')
    """
    if not flops:
        return "-" if flops is None else "0"
    power = min(max(0, math.floor(math.log10(flops) / 3)), 7)
    return f"{flops / 1000**power:.4g} {' kMGTPEZ'[power]}".strip()


def _of_same_cost(config: Config) -> Config:
    """Without what changes numbers and no operations: seeds, rates, and values of schedules that stay above 0.

    Counting takes a second or more; the runs that a search confirms mostly differ in those, and are counted once.
    """
    read = {name: getattr(config, name) for name in (*LEARNED, "compute")}  # a step's latents are shared by workers
    alike = {path: {"kind": "constant", "start": 0.5} for path, each in config.schedules.items() if each.bounds[0] > 0}
    alike.pop("curriculum.synthetic_fraction", None)  # it says how many latents a step has
    numbers = {"training.seed": 0, "training.learning_rate": 1e-3, "training.compile": False, "encoder.weights": None}
    return Config(name="one-step", data=_shape(config), **read).with_overrides(numbers | alike)


def _shape(config: Config) -> DataConfig:
    return DataConfig(image_size=config.data.image_size, channels=config.data.channels)


@lru_cache(maxsize=64)
def _training_flops(config: Config) -> int:
    steps, every = range(config.training.steps), config.gan.penalty_every
    penalised, others = steps[::every], [step for step in steps if step % every]
    return sum(_flops_of(config, alike) for alike in (penalised, others))


def _flops_of(config: Config, steps: Sequence[int]) -> int:
    """Of some steps of a run, which differ in their number of latents alone."""
    by_latents: dict[int, list[int]] = {}
    for step in steps:
        by_latents.setdefault(config.mix_at(step / config.training.steps).latents, []).append(step)
    numbers = Counter({latents: len(of_it) for latents, of_it in by_latents.items()})
    some = sorted(latents for latents in numbers if latents)
    counted = {
        latents: _step_flops(config, of_it[len(of_it) // 2])
        for latents in {0, *some[:1], *some[-1:]} & numbers.keys()
        for of_it in [by_latents[latents]]
    }
    total = numbers[0] * counted.get(0, 0)
    for latents in some:
        share = (latents - some[0]) / max(1, some[-1] - some[0])
        total += numbers[latents] * round(counted[some[0]] + share * (counted[some[-1]] - counted[some[0]]))
    return total


def _step_flops(config: Config, step: int) -> int:
    progress = step / config.training.steps
    mix, knobs = config.mix_at(progress), config.knobs_at(progress)
    knobs = knobs._replace(view_strength=0.0)  # what is blurred is drawn, and fake numbers cannot say what was
    gan = None
    if config.needs_gan:
        generator, discriminator = (network.state_dict() for network in warmup_networks(config, _CPU))
        gan = {"generator": generator, "discriminator": discriminator}
    lab = Lab(config, gan, _CPU)
    fake = FakeTensorMode(allow_non_fake_inputs=True)  # draws have numbers, and what sees them first makes them fake
    _make_fake(lab.modules(), lab.all_optimizers.values(), fake)
    for module in lab.modules():
        module.train()
    number = mix.images + read_by_sources(lab.sources, mix)
    with fake:
        images = _blank(config, number)
        files = {name: _blank(config, mix.groups[name]) for name in config.folders_on}
    fetched = {name: Fetched(torch.arange(len(pixels)), pixels) for name, pixels in files.items()}
    batch = make_batch(
        images,
        torch.zeros(number, dtype=torch.int64),
        mix,
        knobs,
        views=lab.views,
        sources=lab.sources,
        style=lab.style,
        fetched=fetched,
        views_per_image=config.training.views_per_image,
        seed=0,
        step=step,
        device=_CPU,
    )
    with fake:
        return count(lambda: joint_step(lab, batch, knobs)).flops


@lru_cache(maxsize=64)
def _warmup_step_flops(config: Config) -> tuple[int, int] | None:
    """Of the first step, which has the gradient penalty, and of the second, which may not."""
    try:
        run = GanWarmUp(config, _CPU)
        fake = FakeTensorMode()
        networks = [run.generator, run.discriminator, run.average]
        _make_fake(networks, [run.for_generator, run.for_discriminator], fake)
        with fake:
            first, second = (count(lambda: run.advance(_Blank(config), check=False)).flops for _ in range(2))
            return first, second
    except Exception:  # as in training_flops
        return None


class _Blank:
    """As many blank images as are asked for."""

    device, resident, content_key = _CPU, True, ""

    def __init__(self, config: Config) -> None:
        self._config = config

    def __len__(self) -> int:
        return 1

    def fetch(self, indices: Tensor) -> Tensor:
        return _blank(self._config, len(indices))


def _blank(config: Config, number: int) -> Tensor:
    """Images (number, C, S, S) uint8."""
    data = config.data
    return torch.zeros(number, data.channels, data.image_size, data.image_size, dtype=torch.uint8)


def _make_fake(
    modules: Iterable[nn.Module], optimizers: Iterable[torch.optim.Optimizer | None], fake: FakeTensorMode
) -> None:
    """Replace every parameter and buffer by a fake one, in the optimisers, too."""
    twins: dict[Tensor, Tensor] = {}

    def twin(tensor: Tensor | None) -> Tensor | None:
        if tensor is not None and tensor not in twins:
            twins[tensor] = fake.from_tensor(tensor)
        return None if tensor is None else twins[tensor]

    for part in (part for module in modules for part in module.modules()):
        part._parameters.update({name: twin(value) for name, value in part._parameters.items()})  # type: ignore[misc]
        part._buffers.update({name: twin(value) for name, value in part._buffers.items()})
    for optimizer in optimizers:
        for group in optimizer.param_groups if optimizer is not None else ():
            group["params"] = [twins[parameter] for parameter in group["params"]]
