"""Named data sets, cut into splits, as uint8 images on the device or streamed from disk."""

from synthcl.core.rng import epoch_indices
from synthcl.data.found import Found, find
from synthcl.data.images import ImageSource, ResidentImages, StreamedImages
from synthcl.data.order import stream
from synthcl.data.sources import SOURCES
from synthcl.data.splits import (
    Split,
    SplitName,
    has_labels,
    open_sample,
    open_split,
    open_transfer,
    require_classes,
    transfer_config,
)
from synthcl.data.synthetic import SyntheticImages, open_synthetic

__all__ = [
    "SOURCES",
    "Found",
    "ImageSource",
    "ResidentImages",
    "Split",
    "SplitName",
    "StreamedImages",
    "SyntheticImages",
    "epoch_indices",
    "find",
    "has_labels",
    "open_sample",
    "open_split",
    "open_synthetic",
    "open_transfer",
    "require_classes",
    "stream",
    "transfer_config",
]
