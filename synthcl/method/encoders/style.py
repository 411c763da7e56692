"""Perturbed feature statistics: after some stages of the encoder, in training alone, maps get other moments.

x' = s' (x - m) / s + m',   m' = m + e1 a_m,   s' = s + e2 a_s,   e1, e2 ~ N(0, 1) for every view and channel

m and s are mean and standard deviation of one map of one view; a kind says how large a_m and a_s are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from synthcl.core.device import to_device
from synthcl.core.distributed import gather_with_gradient
from synthcl.core.errors import UserError
from synthcl.core.plugin import Count, Section
from synthcl.method.curriculum import AnySchedule
from synthcl.method.curriculum.ramps import Constant
from synthcl.method.curriculum.schedule import Within
from synthcl.method.scene import Own, Player, Plugin

FLOOR = 0.1
"""s' over s at least: below 0 it would show a map as its negative, and at 0 nothing of it"""
_EPSILON = 1e-6
"""added to variances, as the released code of DSU and of AdvStyle has it"""


class Stage(NamedTuple):
    """A part of an encoder that gives maps (n, channels, H, W)."""

    module: nn.Module
    channels: int


class StyleSection(Section):
    """Statistics of feature maps that are perturbed in training."""

    kind: str
    stages: tuple[Count, ...] | None = Field(
        None,
        min_length=1,
        description="of the encoder, counted from 1, after which statistics change; none takes all but the last, whose "
        "means are the features themselves",
    )
    share: Annotated[AnySchedule, Within(ge=0, le=1)] = Field(
        Constant(start=0.5), description="chance of a view to be perturbed after a stage; 0 all along perturbs none"
    )
    coefficient: Annotated[AnySchedule, Within(ge=0, le=10)] = Field(
        Constant(start=1.0),
        description="deviation of what is added to a statistic, in standard deviations of that statistic over the "
        "batch; 0 all along perturbs none",
    )

    @property
    def is_on(self) -> bool:
        """Whether any step of the run can have perturbed maps."""
        return self.share.bounds[1] > 0 and self.coefficient.bounds[1] > 0

    def chosen(self, stages: Sequence[Stage], called: str) -> list[Stage]:
        """The stages that it names.

        Args:
            stages: of an encoder, from the first to the last.
            called: the encoder's name.

        Raises:
            UserError: when the encoder has none, or lacks one of them.
        """
        if not stages:
            raise UserError(f"encoder.style: {called} has no stages that give maps; take it out, or choose a resnet")
        if self.stages is None:
            return list(stages[:-1] or stages)
        for number in self.stages:
            if number > len(stages):
                raise UserError(f"encoder.style.stages names {number}; {called} has stages 1 to {len(stages)}")
        return [stages[number - 1] for number in sorted({*self.stages})]

    @abstractmethod
    def build(self, stages: Sequence[Stage]) -> Style:
        """The plug-in, listening to these stages from now on."""


class Draw(NamedTuple):
    """Random numbers of n views."""

    chosen: Tensor  # (n, stages) uniform in [0, 1)
    noise: Tensor  # (n, 2 * channels of all stages) standard normal: of a stage those of means, then of deviations

    def rows(self, indices: Tensor) -> Draw:
        return Draw(self.chosen[indices], self.noise[indices])

    def to(self, device: torch.device | str) -> Draw:
        return Draw(to_device(self.chosen, device), to_device(self.noise, device))


class _Now(NamedTuple):
    """What a stage does in this pass."""

    lot: Tensor  # (n,) uniform in [0, 1) of views that are perturbed, 1 and more of the others
    of_mean: Tensor  # (n, channels): coefficient * e1
    of_deviation: Tensor  # (n, channels): coefficient * e2


class Style(Plugin):
    """Hooks on stages of an encoder, which act inside `acting` alone and leave maps as they are anywhere else.

    They are neither modules nor parameters of the encoder, so its files do not know of them. A copy of the encoder that
    is made before has none: the slow encoder, whose outputs are targets, sees maps as evaluation does.

    Args:
        section: of this style.
        stages: to listen to.
    """

    optimizer: torch.optim.Optimizer | None = None
    """of a style that learns, as a view does, by which it ascends the terms that play"""

    def __init__(self, section: StyleSection, stages: Sequence[Stage]) -> None:
        super().__init__()
        self.section = section
        self._channels = [stage.channels for stage in stages]
        self._now: list[_Now] | None = None
        for number, stage in enumerate(stages):
            stage.module.register_forward_hook(partial(self._after, number))

    def join(self, own: Own, ascended: bool) -> Player | None:
        """Called before every step, as `View.join` is: the player that it is in it; None where it does not learn."""
        return None

    @abstractmethod
    def sizes(self, stage: int, deviations: Tensor, lot: Tensor) -> Tensor:
        """How far statistics move at a coefficient of 1.

        Args:
            stage: its place among those listened to.
            deviations: (2 * channels,) of means, then of deviations, over the views of all processes.
            lot: (n,) uniform in [0, 1) of views that are perturbed.

        Returns:
            (2 * channels,), or (n, 2 * channels) where views differ.
        """

    def draw(self, views: int, own: Own, generator: torch.Generator) -> Draw | None:
        """Random numbers of all views of a step over all processes; None in a step without any perturbed map.

        Args:
            views: their number, those apart included.
            own: its knobs.
            generator: on the CPU, the only source of randomness.
        """
        if not own["share"] or not own["coefficient"]:
            return None
        chosen = torch.rand(views, len(self._channels), generator=generator)
        return Draw(chosen, torch.randn(views, 2 * sum(self._channels), generator=generator))

    @contextmanager
    def acting(self, draw: Draw | None, own: Own) -> Iterator[None]:
        """Inside, the encoder's pass over as many views as the draw has rows is perturbed.

        What depends on knobs is in tensors here, so that compiled code need not be made anew when they change.

        Args:
            draw: this process's rows; None perturbs nothing.
            own: its knobs.
        """
        if draw is not None:
            noise = (own["coefficient"] * draw.noise).split([count for count in self._channels for _ in range(2)], 1)
            lots = (draw.chosen / own["share"]).unbind(1)
            self._now = [_Now(*each) for each in zip(lots, noise[::2], noise[1::2], strict=True)]
        try:
            yield
        finally:
            self._now = None

    def _after(self, number: int, module: nn.Module, _inputs: Any, maps: Tensor) -> Tensor | None:
        if self._now is None or not module.training:
            return None
        now = self._now[number]
        wide = maps.to(torch.promote_types(maps.dtype, torch.float32))  # autocast's halves are too coarse for moments
        mean, deviation = moments(wide)
        of_mean, of_deviation = self.sizes(number, over_the_batch(torch.cat([mean, deviation], 1)), now.lot).chunk(
            2, dim=-1
        )
        new_mean, new_deviation = mean + now.of_mean * of_mean, deviation + now.of_deviation * of_deviation
        changed = restyled(wide, mean, deviation, new_mean, new_deviation).to(maps.dtype)
        return torch.where((now.lot < 1)[:, None, None, None], changed, maps)


def moments(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every map: (n, C, H, W) -> (n, C), (n, C).

    Of the population, with which a map of one pixel has a deviation of almost 0 where the released code has NaN. For
    larger maps the result of `restyled` is the same: both divide out.
    """
    variance, mean = torch.var_mean(maps, dim=(2, 3), correction=0)
    return mean, (variance + _EPSILON).sqrt()


def over_the_batch(statistics: Tensor) -> Tensor:
    """Standard deviation of statistics (n, k) over the views of all processes: (k,), with its gradient."""
    return (gather_with_gradient(statistics).var(dim=0) + _EPSILON).sqrt()


def restyled(maps: Tensor, mean: Tensor, deviation: Tensor, new_mean: Tensor, new_deviation: Tensor) -> Tensor:
    """Maps with other moments: s' (x - m) / s + m', s' at least `FLOOR` times s.

    Args:
        maps: (n, C, H, W).
        mean, deviation: (n, C), of them.
        new_mean, new_deviation: (n, C), that they are to have.

    Source: Huang and Belongie, "Arbitrary Style Transfer in Real-Time with Adaptive Instance Normalization", ICCV 2017,
    eq. 8. The floor is added here.

    Example:
        >>> maps = torch.tensor([[[[1.0, 3.0]]]])
        >>> restyled(maps, *(torch.tensor([[value]]) for value in (2.0, 1.0, 5.0, 2.0))).flatten().tolist()
        [3.0, 7.0]
    """
    scale = torch.maximum(new_deviation, FLOOR * deviation) / deviation
    shift = new_mean - scale * mean
    return maps * scale[:, :, None, None] + shift[:, :, None, None]
