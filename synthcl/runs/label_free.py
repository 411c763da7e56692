"""What an encoder can be looked at by when there are no labels: whose neighbour an image is, and a collapse."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from synthcl.config.schema import Config
from synthcl.core.atomic import write_whole
from synthcl.core.image_grid import grid_png
from synthcl.data import open_sample
from synthcl.data.features import encode
from synthcl.evaluation.neighbours import nearest

SAMPLE_IMAGES = 2048
QUERIES, NEIGHBOURS = 10, 7
SHOWN_PIXELS = 96
"""a side of an image in the picture, or about it"""


def neighbours_file(encoder: Path) -> Path:
    """The picture beside `encoder.safetensors`."""
    return encoder.with_suffix(".neighbours.png")


def draw_neighbours(file: Path, encoder: torch.nn.Module, config: Config) -> None:
    """A PNG with a row for each of some images: the image, and those with the most similar features.

    Args:
        file: what is written, whole or not at all.
        encoder: in evaluation mode; it is run on the CPU or the GPU that there is.
        config: that it was trained with; the images are a fixed draw of at most 2,048 that it was trained on.
    """
    rows, _ = nearest_in_sample(encoder, config)  # (q, 1 + k, C, S, S)
    pixels = rows.flatten(0, 1).float() / 255
    times = max(1, round(SHOWN_PIXELS / pixels.shape[-1]))  # small images are shown larger, pixel by pixel
    pixels = pixels.repeat_interleave(times, 2).repeat_interleave(times, 3)
    write_whole(file, grid_png(pixels, columns=rows.shape[1]))


def nearest_in_sample(
    encoder: torch.nn.Module, config: Config, sample_images: int = SAMPLE_IMAGES
) -> tuple[Tensor, Tensor]:
    """Some of the images that an encoder was trained on, each before those with the most similar features.

    Args:
        encoder: in evaluation mode; it is run on the CPU or the GPU that there is.
        config: that it was trained with.
        sample_images: at most so many are looked through, a fixed draw.

    Returns:
        (pixels, similarities): (q, 1 + k, C, S, S) uint8 on the CPU, the queries first, and (q, k) float32.

    Raises:
        UserError: when the images cannot be opened.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images = open_sample(config.data, sample_images, "cpu")
    images.device = device
    batch_images, workers = config.evaluation.batch_images, config.data.loader_workers
    features = encode(encoder.to(device), images, None, batch_images, config.view_size, workers)
    queries = torch.arange(min(QUERIES, len(images))) * len(images) // min(QUERIES, len(images))  # (q,), spread evenly
    indices, similarities = nearest(features.cpu(), queries, NEIGHBOURS)
    rows = torch.cat([queries[:, None], indices], dim=1)  # (q, 1 + k)
    return images.fetch(rows.flatten()).cpu().unflatten(0, rows.shape), similarities


def describe_features(scores: dict[str, float], width: int) -> str:
    """What spread and rank of features say, in a line.

    Args:
        scores: with `features/std` and `features/rank`, see `synthcl.evaluation.scores.collapse`.
        width: of the features.
    """
    spread, rank = scores["features/std"], scores["features/rank"]
    return (
        f"features: effective rank {rank:.1f} of {width}, std {spread:.4f} (0 is a collapse, {width**-0.5:.4f} fills "
        "the sphere); they tell a collapsed encoder from others, not a better one from a worse"
    )
