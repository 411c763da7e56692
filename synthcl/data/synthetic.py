"""A folder of synthetic images as a run may use it: paired with real ones, and without what would leak.

An image that was made from a validation or test image, or is a copy of one, would teach the encoder what it is scored
on. So every image is traced to the real image that it names, in the very cut that the run is scored with.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from synthcl.config.sections import DataConfig
from synthcl.core import rng
from synthcl.core.errors import UserError
from synthcl.data.copies import byte_copies, near_copies
from synthcl.data.csv_rows import name_in, read_rows
from synthcl.data.folder import Files, list_unlabelled
from synthcl.data.images import ImageSource, ResidentImages, StreamedImages
from synthcl.data.origins import OUTSIDE, TEST, UNLABELLED, VALIDATION, Origin, find_origins, held_out
from synthcl.data.part import Part
from synthcl.data.splits import images_of
from synthcl.method.synthetic.folder import FolderConfig, Twins

COLUMNS = ("synthetic", "real")
SEPARATOR = "__"
"""between the name of the real image and the rest, in a name such as `cat_001__warm.png`"""
_WHY = {
    VALIDATION: "made from validation images",
    TEST: "made from test images",
    "copy": "copies of validation or test images",
    OUTSIDE: "made from training images that data.image_fraction leaves out",
    "unnamed": "that the CSV file does not name",
    "limit": "above the limit",
}


@dataclass(frozen=True)
class SyntheticImages:
    """The images of a folder that a run shows.

    Args:
        images: they, in the order of their names.
        twins: which of them were made from which unlabelled image; None of an unpaired folder, or where the control
            shows none.
        real: unlabelled images.
        found: images in the folder.
        dropped: images that are left out, by reason.
        copies: how copies of validation and test images were looked for, in words.
        place: of the folder.
    """

    images: ImageSource
    twins: Twins | None
    real: int
    found: int
    dropped: dict[str, int]
    copies: str
    place: str

    def describe(self) -> str:
        """What was found, used and left out, for people."""
        used = f"{len(self.images):,} of the {self.found:,} images in {self.place}"
        if self.twins is not None:
            used += f", made from {self.twins.covered:,} of the {self.real:,} unlabelled images"
        left = [f"{count:,} {_WHY[reason]}" for reason, count in self.dropped.items()]
        return f"{used}; left out: {', '.join(left) or 'none'}; {self.copies}"


@lru_cache(maxsize=8)
def open_synthetic(config: DataConfig, name: str, section: FolderConfig, device: torch.device | str) -> SyntheticImages:
    """Open a folder of synthetic images, less what must not be trained on.

    Args:
        config: the data set, its cut and its unlabelled images.
        name: of the source, for messages.
        section: its settings.
        device: where fetched images appear.

    Raises:
        UserError: when there are no images, one is broken, names a real image that is not there or no image alone, was
            made from a validation or test image where that is refused, or none is left.
    """
    field, folder = f"synthetic.{name}", Path(section.path)
    if not folder.is_dir():
        raise UserError(f"{field}.path {section.path!r} is not a folder; name one that holds synthetic images")
    listed = list_unlabelled(folder, f"fill it, or take the source away with {field}=null")
    files = Files(folder, tuple(sorted(listed.names)))
    dropped: Counter[str] = Counter()
    named = _named_origins(files, section, field)
    dropped["unnamed"] = len(files.names) - len(named)
    absolute = [os.path.normpath(os.path.join(folder.absolute(), file)) for file in files.names]
    origins, unlabelled = find_origins(config, {*named.values()} - {""}, absolute, field)
    if section.attached:
        _require_known(named, origins, section, field)
    kept, positions = [], []
    for file, real in named.items():
        origin = origins[real] if section.attached else Origin(UNLABELLED)
        if origin.split != UNLABELLED:
            dropped[origin.split] += 1
            if section.leaks == "refuse" and origin.split in (VALIDATION, TEST):
                raise UserError(
                    f"{field}: {file!r} was made from {real!r}, a {origin.split} image; remove all such images, or "
                    f"give {field}.leaks=drop to leave them out"
                )
            continue
        kept.append(file)
        positions.append(origin.position)
    if section.limit is not None and len(kept) > section.limit:
        shuffled = torch.randperm(len(kept), generator=rng.generator("synthetic", "limit"))
        chosen = shuffled[: section.limit].sort().values.tolist()
        dropped["limit"] = len(kept) - section.limit
        kept, positions = [kept[row] for row in chosen], [positions[row] for row in chosen]
    images, clean, how = _without_copies(Files(folder, tuple(kept)), config, section, device)
    dropped["copy"] = int((~clean).sum())
    if dropped["copy"] and section.leaks == "refuse":
        copied = kept[int((~clean).nonzero()[0])]
        raise UserError(
            f"{field}: {copied!r} is a copy of a validation or test image; remove all such images, or give "
            f"{field}.leaks=drop to leave them out"
        )
    found = SyntheticImages(
        images=images,
        twins=Twins.of(torch.tensor(positions, dtype=torch.int64)[clean], unlabelled)
        if section.attached and section.twins == "files"
        else None,
        real=unlabelled,
        found=len(files.names),
        dropped={reason: dropped[reason] for reason in _WHY if dropped[reason]},
        copies=how,
        place=section.path,
    )
    if not len(images):
        raise UserError(f"{field}.path: none of its images can be used: {found.describe()}")
    return found


def _named_origins(files: Files, section: FolderConfig, field: str) -> dict[str, str]:
    """The real image that each file names, as it is written; nothing of an unpaired folder."""
    if not section.attached:
        return dict.fromkeys(files.names, "")
    if not section.pairs_in_file:
        return {file: _named_by(file) for file in files.names}
    inside = files.folder / section.pairs
    manifest = inside if inside.is_file() and not Path(section.pairs).is_file() else Path(section.pairs)
    field, known = f"{field}.pairs", {*files.names}
    named: dict[str, str] = {}
    for number, row in read_rows(manifest, COLUMNS, field).items():
        line = f"{field} {str(manifest)!r}, line {number}"
        file = name_in(files, manifest, row["synthetic"])
        if file not in known:
            raise UserError(
                f"{line}: {row['synthetic']!r} is none of the images of {str(files.folder)!r}; paths are relative to "
                "it or to the CSV file; correct or remove the line"
            )
        if not row["real"]:
            raise UserError(f"{line}: {row['synthetic']!r} names no real image; add it or remove the line")
        if named.setdefault(file, row["real"]) != row["real"]:
            raise UserError(
                f"{line}: {row['synthetic']!r} was made from {row['real']!r} here and {named[file]!r} above; name one"
            )
    return {file: named[file] for file in files.names if file in named}


def _named_by(file: str) -> str:
    """The real image of a name: what stands before the last `__`, or else the folders that the file lies in."""
    path = Path(file)
    real, separator, _ = path.stem.rpartition(SEPARATOR)
    if separator and real:
        return (path.parent / real).as_posix()
    return "" if path.parent == Path() else path.parent.as_posix()


def _require_known(named: dict[str, str], origins: dict[str, Origin], section: FolderConfig, field: str) -> None:
    unknown = [file for file, real in named.items() if real not in origins]
    if not unknown:
        return
    first = unknown[0]
    says = f"names {named[first]!r}, which is no real image of data.source" if named[first] else "names no real image"
    raise UserError(
        f"{field}: {first!r} {says} ({len(unknown):,} of {len(named):,} such images); name them REAL__anything.png or "
        f"REAL/anything.png with REAL as in docs/synthetic-folder.md, or list them in a CSV file ({','.join(COLUMNS)})"
    )


def _without_copies(
    files: Files, config: DataConfig, section: FolderConfig, device: torch.device | str
) -> tuple[ImageSource, Tensor, str]:
    """The images of files less copies of validation and test images, which files are none, and how that was found."""
    part = Part(files, None, ())
    none = torch.ones(len(files.names), dtype=torch.bool)
    if not files.names:
        return StreamedImages(*files, config.image_size, config.channels, device), none, "nothing to compare"
    others = held_out(config)
    if not others:
        return images_of([part], config, device), none, "no validation or test images to compare with"
    bytes_each = config.channels * config.image_size**2
    if max(len(part), *map(len, others)) * bytes_each <= config.resident_limit_mib * 2**20:
        decoded = images_of([part], config, "cpu")
        pixels = decoded.fetch(torch.arange(len(part)))
        clean = torch.ones(len(part), dtype=torch.bool)
        for other in others:
            real = images_of([other], config, "cpu")
            clean &= ~near_copies(pixels, real.fetch(torch.arange(len(real))), section.copy_distance)
        left = Files(files.folder, tuple(file for file, good in zip(files.names, clean.tolist(), strict=True) if good))
        streamed = StreamedImages(*left, config.image_size, config.channels, device)
        how = f"compared with {sum(map(len, others)):,} validation and test images"
        return ResidentImages(pixels[clean], device, files=streamed), clean, how
    clean = torch.ones(len(part), dtype=torch.bool)
    real_files = [o.pixels.folder / name for o in others if isinstance(o.pixels, Files) for name in o.pixels.names]
    how = "too many to compare pixels with validation and test images, see data.resident_limit_mib"
    if real_files:
        clean = ~torch.tensor(byte_copies([files.folder / name for name in files.names], real_files))
        how = f"compared by bytes alone with {len(real_files):,} validation and test images"
    left = Files(files.folder, tuple(file for file, good in zip(files.names, clean.tolist(), strict=True) if good))
    source = images_of([Part(left, None, ())], config, device)
    if isinstance(source, StreamedImages):
        source.require_images()
    return source, clean, how
