"""What flows from images to losses, and what the families of the method are made of.

A family is a folder beside this file and an idea is a file in it, with two classes: a frozen `Section` with its own
`kind`, fields and `build`, and the plug-in that `build` makes. One line in the family's `__init__` adds it.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthcl.core.device import normalise
from synthcl.core.updates import ema_update

Own = Mapping[str, float]
"""a plug-in's scheduled fields at this step by name, with the knobs that all share, such as hardness"""
Statistics = dict[str, Tensor]
"""0-dim tensors on the device, to be averaged and fetched at intervals"""


class Views(NamedTuple):
    """One process's views. Rows lie in blocks by origin: real ones first, then each source's.

    Before the base view, a part holds its distinct images and view i of it shows image i modulo their number;
    afterwards a part has one row a view.
    """

    parts: tuple[Tensor, ...]
    """(n, C, H, W) in [0, 1], in row order: real, G(z), G_ema(z); a part that requires no gradient costs none"""
    counts: tuple[int, ...]
    """views of each part; they add up to V"""
    spans: Mapping[str, slice]
    """'real' or a source's name -> its rows; on the host, since a mask would wait for a GPU"""
    members: Tensor
    """(V, m) int64: the groups of this step that a view belongs to, global over processes; m is 1 unless mixed"""
    weights: Tensor | None = None
    """(V, m) at least 0, rows of mixed views add up to 1; None: whole memberships"""
    images: Tensor | None = None
    """(V, m) int64: position in the data set of the image shown, or below -1 a latent that returns; -1 equals nothing,
    not even itself"""
    anchors: Tensor | None = None
    """(V,) with mean 1: how much a view counts as an anchor; None: all 1"""


class Apart(NamedTuple):
    """Views that one term alone looks at: anchors, positives or negatives of no other, and in no statistic but those of
    the encoder's BatchNorm."""

    pixels: Tensor
    """(n, C, s, s) in [0, 1], as that term wants them seen"""
    rows: Tensor
    """(n,) int64: the place of each among those of all processes"""


class Seen:
    """What the encoder makes of the views, in one pass; a head's output is computed when it is first asked for.

    Views apart are in that pass, and nowhere else: `views`, `features`, heads and slow encoder are without them.
    """

    def __init__(
        self,
        views: Views,
        encoder: Callable[..., Tensor],
        heads: Mapping[str, nn.Module],
        slow: SlowCopy | None = None,
        apart: Apart | None = None,
    ) -> None:
        self.views, self.apart, self._heads, self._slow = views, apart, heads, slow
        self._of_slow: Tensor | None = None
        parts = views.parts if apart is None else (*views.parts, apart.pixels)
        self.features: Tensor = encoder([normalise(part) for part in parts])  # (V, feature_dim)
        self.of_apart: Tensor | None = None  # (n, feature_dim)
        if apart is not None:
            self.features, self.of_apart = self.features.split([len(views.members), len(apart.rows)])
        self._raw: dict[str, Tensor] = {}
        self._unit: dict[str, Tensor] = {}

    def head(self, name: str) -> Tensor:
        """What a head makes of the features: (V, dim)."""
        if name not in self._raw:
            self._raw[name] = self._heads[name](self.features)
        return self._raw[name]

    def slow(self, name: str) -> Tensor:
        """What the slow encoder and its head make of the views: (V, dim), without gradient.

        Without a slow encoder, as a term has it that needs none, it is what the encoder itself makes of them.
        """
        if self._slow is None:
            return self.head(name).detach()
        with torch.no_grad():
            if self._of_slow is None:
                self._of_slow = self._slow.encoder([normalise(part) for part in self.views.parts])
            return self._slow.heads[name](self._of_slow)

    def embeddings(self, name: str) -> Tensor:
        """The same on the unit sphere: (V, dim) of length 1."""
        if name not in self._unit:
            self._unit[name] = F.normalize(self.head(name), dim=1)
        return self._unit[name]


class SlowCopy(nn.Module):
    """A copy of encoder and heads, whose outputs terms take as targets, and whose loss bounds a player.

    It begins as they are, and follows them: slow <- decay * slow + (1 - decay) * fast, buffers copied.

    Args:
        encoder: whose copy looks at the views.
        heads: by name, on its features.
        decay: of a step, in [0, 1).

    Source: He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020, eq. 2.
    """

    def __init__(self, encoder: nn.Module, heads: Mapping[str, nn.Module], decay: float) -> None:
        super().__init__()
        self.encoder, self.heads = copy.deepcopy(encoder), copy.deepcopy(nn.ModuleDict(heads))
        self.requires_grad_(False)
        self._decay = decay

    def follow(self, encoder: nn.Module, heads: Mapping[str, nn.Module]) -> None:
        """After the update of a step."""
        ema_update(self.encoder, encoder, self._decay)
        for name, head in self.heads.items():
            ema_update(head, heads[name], self._decay)


class Draw(Protocol):
    """The random numbers of a plug-in for the whole batch, made on the CPU; a process takes its own rows."""

    def rows(self, indices: Tensor) -> Draw: ...

    def to(self, device: torch.device | str) -> Draw: ...


class Plugin(nn.Module, ABC):
    """What every plug-in of the step is: its `state_dict` is its whole state, and its buffers are its banks."""

    SPACE: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """ranges of its own fields that a search may draw from, as in synthcl/search/spaces"""

    def after(self, seen: Seen, own: Own) -> None:
        """Called after the update of every step: banks and slow copies."""

    def measures(self, seen: Seen) -> Statistics:
        """What it logs of the last step beside losses."""
        return {}


class View(Plugin):
    """Changes what the encoder sees. Views run in the order of their sites, then of their names."""

    site: ClassVar[Literal["base", "pixel", "mix"]]
    """'base' turns images into views of the size asked for; 'pixel' changes views; 'mix' makes one of two"""
    straight_through: bool = False
    """whether some of it has the gradient of the identity, because its own is 0 almost everywhere, or would tell who
    makes the images how the view answers to them"""
    optimizer: torch.optim.Optimizer | None = None
    """of a view that learns, by which it ascends the terms that play"""

    def join(self, own: Own, ascended: bool) -> Player | None:
        """Called before every step: the player that this view is in it; None where it does not learn.

        Args:
            own: its knobs and the shared ones.
            ascended: whether the step has a loss that players ascend.
        """
        return None

    @abstractmethod
    def draw(self, views: int, strength: float | Tensor, generator: torch.Generator) -> Draw | None:
        """Random numbers of all views of a step over all processes; a function of its arguments alone.

        Args:
            views: their number.
            strength: in [0, 2], of all views, or (views,) float64 on the CPU where sources have their own; within a
                part of the views it is one number.
            generator: on the CPU, the only source of randomness.
        """

    @abstractmethod
    def forward(self, views: Views, draw: Any, own: Own) -> Views:
        """The views after this one; their gradient reaches the pixels, as a slope or straight through."""


class Term(Plugin):
    """One loss of the encoder and its heads."""

    needs_slow: ClassVar[bool] = False
    """whether it looks at `Seen.slow`; one slow encoder serves all terms of a run"""
    plays: bool
    """whether players ascend it"""

    @abstractmethod
    def forward(self, seen: Seen, own: Own) -> Tensor:
        """0-dim float32: the mean over this process's anchors."""


class Pretext(Term):
    """A term with views of its own, of real images that its section takes from all other terms; a run has one at most.

    It finds them in `Seen.apart` and `Seen.of_apart`, which are None in a step without any.
    """

    @abstractmethod
    def posed(self, views: Tensor, rows: Tensor) -> Tensor:
        """Its own views as the encoder is to see them.

        Args:
            views: (n, C, s, s) in [0, 1], after all views but those that mix.
            rows: (n,) int64, the place of each among those of all processes.

        Returns:
            (n, C, s, s) in [0, 1].
        """


class Asked(NamedTuple):
    """What a source has to make this process's images of a step from."""

    draw: Any
    """its rows of `draw`; None of a source that draws nothing"""
    real: Tensor
    """(n, C, H, W) float in [0, 1], its share of the real images that it asked for"""
    shown: Tensor | None = None
    """(groups, C, H, W) float in [0, 1]: of a source with images of its own, those that its plan has chosen"""


class Made(NamedTuple):
    """What a source made in a step."""

    parts: tuple[Tensor, ...]
    """(n, C, H, W) in [0, 1] each, for the views"""
    own: Any = None
    """what its player learns from, on the branch whose gradient is not reversed; None where nobody plays"""


class Source(Plugin):
    """Gives synthetic images: made in the step, each group of them from one latent, or chosen from a folder."""

    views_per_group: int
    """views of one latent, or of one image of a folder"""
    views_per_part: int
    """views of one image"""
    attached: bool = False
    """whether its views join the groups of real images, slot j of P that of row floor(j R / P) of R"""

    def reads_real(self, groups: int) -> int:
        """Real images that it asks for beside those of the encoder, over all processes."""
        return 0

    def ids(self, draw: Any) -> Tensor | None:
        """(n,) int64 below -1, by which latents that return are known, of a process's rows; None where none returns."""
        return None

    def draw(self, groups: int, seed: int, step: int) -> Draw | None:
        """Random numbers of all groups of a step over all processes; a function of its arguments alone."""
        return None

    @abstractmethod
    def make(self, asked: Asked, own: Own) -> Made:
        """This process's images.

        Args:
            asked: what they are made from.
            own: its knobs and the shared ones.
        """


class Player(Protocol):
    """What ascends the terms that play: G against a restraint of its own, with D, and views that learn within a budget.

    Its reversal node gives the encoder one branch of its images and itself the other. `own` is what `make` gave it,
    None of a view.
    """

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Of what ascends."""

    def prepare(self, own: Any) -> None:
        """Before the encoder looks: D's own update, on the unreversed branch."""

    def restraint(self, own: Any) -> Tensor | None:
        """What it descends by itself: realism; None of a hard budget."""

    def heed(self, own: Any, slow: Callable[[], Tensor | None]) -> None:
        """Before the update, for a player that the slow encoder bounds.

        `slow` gives the weighted sum of the terms that play as the slow encoder has them, with a graph to the images;
        None where no term plays in this step. It takes a forward pass, so that who is not bounded does not call it.
        """
