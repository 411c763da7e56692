"""Which images the coming steps show: real ones in shuffled epochs, and those of folders of synthetic ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from synthcl.config.mixture import extremes
from synthcl.config.schema import Config
from synthcl.core import distributed
from synthcl.core.errors import UserError
from synthcl.core.rng import epoch_indices
from synthcl.data import ImageSource, SyntheticImages, stream
from synthcl.method.curriculum.balance import Balance
from synthcl.method.curriculum.bandit import Shares
from synthcl.method.curriculum.mix import Mix
from synthcl.method.objectives.distil import taught
from synthcl.method.scene import Source
from synthcl.method.synthetic.folder import Folder, choose_twins
from synthcl.training.batch import Fetched


@dataclass
class Seen:
    """How far a run is in each endless sequence of images, over all processes."""

    real: int = 0
    """real images given to the encoder"""
    for_sources: int = 0
    """likewise those that sources read, such as D judges"""
    files: dict[str, int] = field(default_factory=dict)
    """by unpaired folder: its images that were shown"""

    def copy(self) -> Seen:
        return Seen(self.real, self.for_sources, {**self.files})

    def state_dict(self) -> dict[str, Any]:
        """Numbers by name; folders only where there are some."""
        state = {"real_seen": self.real, "judged_seen": self.for_sources}
        return state | ({"files_seen": {**self.files}} if self.files else {})

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Seen:
        """From a state that has those of `state_dict` among others."""
        return cls(state["real_seen"], state["judged_seen"], {**state.get("files_seen", {})})


class Planned(NamedTuple):
    """What this process shows in a step."""

    real: Tensor
    """(n,) int64: real images for the encoder, those with views apart last, then those that sources read"""
    files: dict[str, Tensor]
    """by folder: (groups,) int64 position in it, -1 where a slot shows its real image"""


class Images(NamedTuple):
    """What a run shows: real images, and those of each folder of synthetic ones that is on."""

    real: ImageSource
    folders: Mapping[str, SyntheticImages]
    balance: Balance | None = None
    """of the real ones, once it has begun"""

    def plan(
        self, config: Config, sources: Mapping[str, Source], seen: Seen, steps: range, shares: Shares | None = None
    ) -> Iterator[Planned]:
        """What each coming step shows, a function of the arguments alone.

        Args:
            config: of the run.
            sources: that are on.
            seen: so far; it is not changed.
            steps: the coming ones.
            shares: that a bandit has decided, of all of them.
        """
        seen, seed = seen.copy(), config.training.seed
        for step in steps:
            mix = config.mix_at(step / config.training.steps, shares)
            for_sources = read_by_sources(sources, mix)
            every = self._indices(seen.real, mix.images, seed, "real")
            shared, apart = every.split([mix.real, mix.apart])
            judged = self._indices(seen.for_sources, for_sources, seed, "judged")
            files: dict[str, Tensor] = {}
            for name, folder in self.folders.items():
                count, key = mix.groups[name], f"synthetic {name}"
                if not sources[name].attached:
                    chosen = epoch_indices(len(folder.images), seen.files.get(name, 0), count, seed, key)
                elif folder.twins is not None:
                    chosen = choose_twins(folder.twins, shared, count, seed, key, step)
                else:
                    chosen = torch.full((count,), -1)
                files[name] = chosen[distributed.rows(count)]
            real = shared[distributed.rows(mix.real)], apart[distributed.rows(mix.apart)]
            yield Planned(torch.cat([*real, _own_share(sources, mix, judged)]), files)
            advance(seen, sources, mix)

    def _indices(self, begin: int, size: int, *key: int | str) -> Tensor:
        """Real images from this position of a sequence on."""
        if self.balance is None:
            return epoch_indices(len(self.real), begin, size, *key)
        return self.balance.indices(begin, size, *key)

    def stream(self, plan: Iterator[Planned], workers: int) -> Iterator[tuple[Planned, Tensor, dict[str, Fetched]]]:
        """Fetch what was planned, files ahead of their use.

        Args:
            plan: of the coming steps.
            workers: decoding processes for each source of streamed images.

        Yields:
            What was planned, the real images (n, C, S, S) uint8, and what was fetched of each folder.
        """
        own, of_real, *of_folders = itertools.tee(plan, 2 + len(self.folders))
        real = stream(self.real, (planned.real for planned in of_real), workers)
        files = [
            stream(folder.images, _files(plans, name), workers)
            for plans, (name, folder) in zip(of_folders, self.folders.items(), strict=True)
        ]
        for planned, images, *fetched in zip(own, real, *files, strict=True):
            named = zip(self.folders, fetched, strict=True)
            yield planned, images, {name: Fetched(planned.files[name], pixels) for name, pixels in named}


def read_by_sources(sources: Mapping[str, Source], mix: Mix) -> int:
    """Real images of a step, over all processes, that sources read beside the encoder."""
    return sum(source.reads_real(mix.groups.get(name, 0)) for name, source in sources.items())


def advance(seen: Seen, sources: Mapping[str, Source], mix: Mix) -> None:
    """Move on by a step."""
    seen.real += mix.images
    seen.for_sources += read_by_sources(sources, mix)
    for name, count in mix.groups.items():
        if isinstance(sources[name], Folder) and not sources[name].attached:
            seen.files[name] = seen.files.get(name, 0) + count


def _own_share(sources: Mapping[str, Source], mix: Mix, judged: Tensor) -> Tensor:
    """This process's part of what each source reads, source by source."""
    counts = [source.reads_real(mix.groups.get(name, 0)) for name, source in sources.items()]
    parts = judged.split(counts) if counts else ()
    return torch.cat([judged[:0], *(part[distributed.rows(len(part))] for part in parts)])


def _files(plans: Iterator[Planned], name: str) -> Iterator[Tensor]:
    """Of a folder, the positions that each step fetches."""
    for planned in plans:
        yield planned.files[name][planned.files[name] >= 0]


def require_given(
    config: Config, images: ImageSource, folders: Mapping[str, SyntheticImages], targets: Mapping[str, Tensor]
) -> None:
    """Refuse a run without all that it shows, and all that its terms are taught by; arguments as of `Trainer`.

    Raises:
        UserError: as `require_enough_images`.
        ValueError: when folders or targets are not those of the configuration.
    """
    if {*folders} != {*config.folders_on}:
        raise ValueError(f"a run with folders {[*config.folders_on]} needs the images of each, not {[*folders]}")
    if {name: len(images) for name in taught(config.terms_on)} != {name: len(of) for name, of in targets.items()}:
        raise ValueError(f"terms with a teacher need a target for each of {len(images)} images, not {[*targets]}")
    require_enough_images(config, len(images))


def require_enough_images(config: Config, available: int) -> None:
    """Refuse a data set smaller than the real part of a step, or than its clusters.

    Raises:
        UserError: naming both numbers.
    """
    rungs = (0.0, *config.evaluation.rungs)
    needed = max(mix.images for mix in (*map(config.mix_at, rungs), *extremes(config)))
    if available < needed:
        raise UserError(
            f"data.source {config.data.source!r} gives {available} unlabelled images, fewer than the {needed} "
            f"of a step; lower training.batch_images to at most {available} or raise data.image_fraction"
        )
    balance = config.curriculum.balance
    if balance.strength > 0 and available < balance.clusters:
        raise UserError(
            f"curriculum.balance.clusters {balance.clusters} are more than the {available} unlabelled images of "
            f"data.source {config.data.source!r}; lower it"
        )
