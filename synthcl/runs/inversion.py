"""Twins of real images from the latent space of the warmed-up GAN, as a folder that a run can train on.

z_i    = argmin |G(z) - x_i|^2  over  |z|^2 = latent_dim
twins  = G(sqrt(1 - distance^2) z_i + distance e),  e standard normal

Source: after Wang et al., "Adversarial Training with Natural Transformation" (NaTra), 2021, whose expanded codes and
directions of attributes are not taken over. The sphere, on which most latents lie, is that of Menon et al., "PULSE",
CVPR 2020; the step away from z_i is that of `synthetic.gan.walk`.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from synthcl.config.schema import Config
from synthcl.core import rng
from synthcl.core.atomic import disk_failures_named, write_whole
from synthcl.core.device import resize, to_float
from synthcl.core.errors import UserError
from synthcl.core.progress import Progress
from synthcl.data import ImageSource, open_split
from synthcl.data.origins import unlabelled_names
from synthcl.data.synthetic import COLUMNS
from synthcl.method.synthetic.gan.networks import make_generator
from synthcl.method.synthetic.gan.source import walked
from synthcl.runs.gan_cache import cached_gan
from synthcl.runs.storage import Storage

PAIRS = "pairs.csv"
"""which real image each twin was made from; where it lies, all of them do"""
LEARNING_RATE, STARTS, AT_ONCE = 0.1, 2, 128


class Inverted(NamedTuple):
    """What a generator shows of images.

    Attributes:
        latents: (n, latent_dim), of length sqrt(latent_dim).
        distances: (n,) mean squared difference of a pixel of G(z) and of the image.
    """

    latents: Tensor
    distances: Tensor


class WrittenTwins(NamedTuple):
    """What was written.

    Attributes:
        images: real images that were inverted.
        paired: of them, those that G shows better than any other real image does, and that have twins.
        over_nearest: median distance of G(z) to its image, over the median distance to the nearest other real image.
    """

    images: int
    paired: int
    over_nearest: float


def invert(generator: nn.Module, images: Tensor, latent_dim: int, steps: int) -> Inverted:
    """The latents whose images are nearest to given ones, by Adam from two random starts of each.

    Args:
        generator: frozen; (n, latent_dim) to (n, C, h, w) in [0, 1].
        images: (n, C, h, w) in [0, 1], on its device.
        latent_dim: of the generator.
        steps: of Adam, with a rate that falls along half a cosine.
    """
    shape = (len(images), STARTS, latent_dim)
    starts = torch.randn(shape, generator=rng.generator("inversion")).to(images.device)
    found = []
    with Progress("inversion", -(-len(images) // AT_ONCE) * steps, "step", percent=True, delay_seconds=1) as progress:
        for goal, drawn in zip(images.split(AT_ONCE), starts.split(AT_ONCE), strict=True):
            points = drawn.clone().requires_grad_()  # (m, STARTS, latent_dim)
            optimizer = torch.optim.Adam([points], LEARNING_RATE)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
            for _ in range(steps):
                optimizer.zero_grad()
                _distances(generator, _on_sphere(points), goal).sum().backward()
                optimizer.step()
                schedule.step()
                progress.advance()
            with torch.no_grad():
                reached = _on_sphere(points)
                best = _distances(generator, reached, goal).min(dim=1)
                found.append(Inverted(reached[torch.arange(len(goal)), best.indices], best.values))
    return Inverted(*map(torch.cat, zip(*found, strict=True)))


def _on_sphere(points: Tensor) -> Tensor:
    return F.normalize(points, dim=-1) * points.shape[-1] ** 0.5


def _distances(generator: nn.Module, latents: Tensor, goal: Tensor) -> Tensor:
    """(m, STARTS) mean squared differences of G(z), latents (m, STARTS, latent_dim), and goals (m, C, h, w)."""
    made = generator(latents.flatten(0, 1)).unflatten(0, latents.shape[:2])
    return (made - goal[:, None]).square().flatten(2).mean(dim=2)


def nearest_others(images: Tensor) -> Tensor:
    """(n,) mean squared difference of a pixel of each image (n, C, h, w) and the nearest other one; n is 2 at least."""
    points, rows = images.flatten(1), torch.arange(len(images), device=images.device)
    nearest = []
    for part, own in zip(points.split(AT_ONCE), rows.split(AT_ONCE), strict=True):
        distances = torch.cdist(part, points).square() / points.shape[1]
        distances[torch.arange(len(own)), own] = torch.inf
        nearest.append(distances.min(dim=1).values)
    return torch.cat(nearest)


def write_twins(config: Config, folder: Path, *, per_image: int, distance: float, steps: int) -> WrittenTwins:
    """Invert the unlabelled images of a configuration, and write twins of them and `pairs.csv`.

    The GAN is that of the configuration, from the cache of its storage, or is warmed up now. An image that some other
    real image resembles more than G(z) does gets no twin.

    Args:
        config: its data and its GAN.
        folder: made if missing; an interrupted call is repeated.
        per_image: twins of each real image.
        distance: in [0, 1], of a twin's latent from that of its image; 0 shows G(z) itself.
        steps: of the inversion.

    Raises:
        UserError: when there is no GAN, a setting is out of bounds, the folder holds twins, or no image gets any.
    """
    require_settings(config, folder, per_image=per_image, distance=distance, steps=steps)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images = open_split(config.data, "unlabelled", device).images
    if len(images) < 2:
        raise UserError(f"data: {len(images)} unlabelled image has no other one to be compared with; give two at least")
    gan = cached_gan(config, images, Storage(config.compute.storage, config.name).shared / "gan", device)
    network = make_generator(config.gan, config.data.channels, config.gan_image_size).to(device).requires_grad_(False)
    network.load_state_dict(gan["generator"])
    real = _all(images, config.gan_image_size)
    found, nearest = invert(network, real, config.gan.latent_dim, steps), nearest_others(real)
    paired = (found.distances < nearest).nonzero().flatten()
    over_nearest = (found.distances.median() / nearest.median()).item()
    if not len(paired):
        raise UserError(
            f"G shows none of {len(images):,} images better than another real image does ({over_nearest:.2f} times as "
            "far), so that no twin would be a view of its image; warm G up longer (synthetic.gan.warmup_kimg), or give "
            "more --steps"
        )
    names = unlabelled_names(config.data)
    with disk_failures_named("--out", folder):
        folder.mkdir(parents=True, exist_ok=True)
        rows = [COLUMNS]
        for copy in range(per_image):
            others = torch.randn(found.latents.shape, generator=rng.generator("twins", copy)).to(device)
            latents = walked(found.latents, others, distance)
            for part in paired.split(AT_ONCE):
                with torch.no_grad():
                    made = network(latents[part]).cpu()
                for position, image in zip(part.tolist(), made, strict=True):
                    file = f"{position:06d}-{copy}.png"
                    write_whole(folder / file, _png(image))
                    rows.append((file, names[position]))
        table = io.StringIO(newline="")
        csv.writer(table).writerows(rows)
        write_whole(folder / PAIRS, table.getvalue())
    return WrittenTwins(len(images), len(paired), over_nearest)


def _all(images: ImageSource, size: int) -> Tensor:
    """(n, C, size, size) in [0, 1]: of files a part after the other, since they may be large."""
    return torch.cat([resize(to_float(images.fetch(part)), size) for part in torch.arange(len(images)).split(AT_ONCE)])


def _png(image: Tensor) -> bytes:
    """Of an image (1 or 3, h, w) in [0, 1]."""
    pixels = (image * 255 + 0.5).clamp(0, 255).byte().permute(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(2).numpy() if len(image) == 1 else pixels.numpy()).save(file, format="png")
    return file.getvalue()


def require_settings(config: Config, folder: Path, *, per_image: int, distance: float, steps: int) -> None:
    """Refuse what `write_twins` cannot do, before anything is computed; arguments and errors as there."""
    if "gan" not in config.synthetic:
        raise UserError("synthetic.gan is null, and twins are made by a GAN; leave it as it is")
    for option, value, least in (("--per-image", per_image, 1), ("--steps", steps, 1)):
        if value < least:
            raise UserError(f"{option} {value} is too small; give {least} at least")
    if not 0 <= distance <= 1:
        raise UserError(f"--distance {distance:g} is not in [0, 1]; 0 shows G(z) itself, 1 any image of G")
    if (folder / PAIRS).exists():
        raise UserError(f"--out {str(folder)!r} holds twins already; name a new folder, or remove it")
