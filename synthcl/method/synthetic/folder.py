"""Synthetic images that somebody has made already, such as a diffusion model's, as a source beside the GAN or alone.

Unpaired, an image is a group of its own: views of it attract. Paired, an image names the real image that it was
made from and joins its group: (real view, synthetic view) attract.

Source: as more images, Wang et al., "Do Generated Data Always Help Contrastive Learning?" (AdaInf), ICLR 2024; as
positives of the image they were made from, Zeng et al., "Contrastive Learning with Synthetic Positives" (CLSP), ECCV
2024.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from synthcl.core import rng
from synthcl.core.plugin import GroupSize, Section
from synthcl.method.curriculum import AnySchedule
from synthcl.method.curriculum.ramps import Constant
from synthcl.method.scene import Asked, Made, Own, Seen, Source, Statistics


class FolderConfig(Section):
    """A folder of synthetic images; images made from validation or test images are never trained on."""

    kind: Literal["folder"] = "folder"
    path: str = Field(min_length=1, description="folder of the images, at any depth")
    pairs: str = Field(
        "none",
        description="which real image each was made from: none, names (REAL__anything.png or REAL/anything.png), or a "
        "CSV file with the columns synthetic and real",
    )
    portion: float = Field(
        1.0, ge=0, le=100, description="synthetic views of this folder for each one of the GAN; 0 leaves it out"
    )
    limit: int | None = Field(None, ge=1, description="most images that are used, of one fixed shuffle; none sets none")
    views_per_image: GroupSize = Field(
        2, description="views of an image that is paired with no real one; a twin has one"
    )
    view_strength_factor: AnySchedule = Field(
        Constant(start=1.0), description="strength of the views of its images, over curriculum.view_strength"
    )
    leaks: Literal["drop", "refuse"] = Field(
        "drop", description="leave out what was made from a validation or test image, or refuse to run with such images"
    )
    copy_distance: float = Field(
        3.0,
        ge=0,
        le=64,
        description="grey levels of 255, root mean square at 16 px: nearer to a validation or test image is a copy of "
        "it, and left out; 0 finds exact copies alone",
    )
    twins: Literal["files", "none"] = Field(
        "files", description="none shows one more view of the real image in place of each twin, as a control"
    )

    @field_validator("pairs")
    @classmethod
    def _is_a_way_to_pair(cls, pairs: str) -> str:
        if pairs not in ("none", "names") and not pairs.endswith(".csv"):
            raise ValueError("must be none, names, or a file that ends in .csv")
        return pairs

    @model_validator(mode="after")
    def _a_twin_has_one_view(self) -> FolderConfig:
        if self.attached and self.views_per_image != 2:
            raise ValueError(
                f"views_per_image {self.views_per_image} is for images without pairs, and with pairs {self.pairs} each "
                "is one more view of a real image; leave it out, and raise portion for more of them"
            )
        return self

    @property
    def pairs_in_file(self) -> bool:
        """Whether a CSV file says what was made from what."""
        return self.pairs.endswith(".csv")

    @property
    def attached(self) -> bool:
        """Whether its views join the groups of real images."""
        return self.pairs != "none"

    @property
    def views_per_group(self) -> int:
        """Views that share a group and are this source's own; a twin is one more view of a real image's group."""
        return 1 if self.attached else self.views_per_image

    def build(self, name: str) -> Folder:
        """The source in a step."""
        return Folder(name, self)


class Twins(NamedTuple):
    """Which images of a folder were made from which real image."""

    files: Tensor
    """(n,) int64: positions in the folder, those of one real image side by side"""
    starts: Tensor
    """(real + 1,) int64: those of real image i are `files[starts[i]:starts[i + 1]]`"""

    @classmethod
    def of(cls, origins: Tensor, real: int) -> Twins:
        """
        Args:
            origins: (n,) int64 in [0, real), which real image each image of the folder was made from.
            real: number of real images.
        """
        counts = origins.bincount(minlength=real)
        return cls(origins.argsort(stable=True), torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)]))

    @property
    def covered(self) -> int:
        """Real images with at least one twin."""
        return int((self.starts.diff() > 0).sum())


def rows_of_slots(groups: int, real: int) -> Tensor:
    """The real row that each slot of an attached source belongs to: floor(j R / P), which any number of processes that
    divides both keeps inside a process.

    Args:
        groups: P, slots of a step over all processes.
        real: R, real images of the step; at least 1.

    Example:
        >>> rows_of_slots(4, 8), rows_of_slots(4, 2)
        (tensor([0, 2, 4, 6]), tensor([0, 0, 1, 1]))
    """
    return torch.arange(groups) * real // max(1, groups)


def choose_twins(twins: Twins, positions: Tensor, groups: int, *key: int | str) -> Tensor:
    """A twin for every slot, drawn anew in every step; slots of one row get different ones while there are any.

    Args:
        twins: of the folder.
        positions: (R,) int64, the real images of the step, over all processes.
        groups: slots of the step, over all processes.
        key: what the draw depends on.

    Returns:
        (groups,) int64 positions in the folder; -1 where the real image has no twin.
    """
    rows = rows_of_slots(groups, len(positions))
    ordinal = torch.arange(groups) - torch.searchsorted(rows, rows)  # of a slot among those of its row
    begin, end = twins.starts[positions][rows], twins.starts[positions + 1][rows]
    count = end - begin
    uniform = torch.rand(len(positions), generator=rng.generator(*key), dtype=torch.float64)
    turn = (uniform[rows] * count).long()
    chosen = begin + (turn + ordinal) % count.clamp(min=1)
    return torch.where(count > 0, twins.files[chosen.clamp(max=max(0, len(twins.files) - 1))], -1)


class Folder(Source):
    """Shows what its plan has chosen: of an unpaired folder one image after the other in shuffled epochs, of a paired
    one a twin of the real image of each slot, or that image itself where it has none.

    Its share of a step's views is `synthetic_fraction * portion / (sum of portions)`, a GAN's portion being 1.

    Args:
        name: of the source.
        section: its settings.
    """

    SPACE: ClassVar[dict[str, dict[str, Any]]] = {"portion": {"low": 0.1, "high": 10.0, "log": True}}

    def __init__(self, name: str, section: FolderConfig) -> None:
        super().__init__()
        self.name, self.attached = name, section.attached
        self.views_per_group = self.views_per_part = section.views_per_group

    def make(self, asked: Asked, own: Own) -> Made:
        assert asked.shown is not None
        return Made((asked.shown,))

    @torch.no_grad()
    def measures(self, seen: Seen) -> Statistics:
        """Mean cosine of a twin and the first view of its real image, a slot each: low where they have little in
        common."""
        if not self.attached or self.name not in seen.views.spans:
            return {}
        embeddings = seen.embeddings("main").detach().float()
        span, real = seen.views.spans[self.name], seen.views.spans["real"]
        first = seen.views.members[span, :1] == seen.views.members[real, 0]  # (slots, real views)
        views = embeddings[real][first.float().argmax(dim=1)]
        return {f"synthetic/{self.name}/twin_similarity": (embeddings[span] * views).sum(dim=1).mean()}
