"""Random views a second: crop, flip, jitter, grayscale and blur of RGB images, two views an image, against three peers.

lightly and torchvision transform one image after the other in a DataLoader with as many workers as cores; kornia and
synthcl transform a batch with as many threads as cores, on the CPU and on a GPU where there is one, without and
with a gradient to the images. All have the same ranges and probabilities, blur included: sigma up to 2 in half of
the views, with a kernel of a tenth of the image's side in torchvision and kornia, uncut in lightly and synthcl.

The bound is `copy`: every byte of a view has to be written, and one of an image read. `matrices` are the same views
by dense products along the axes, 14 MFLOP a view at 96 pixels, as a GPU makes them, and `grid` is torch's
grid_sample for the crop alone, neither antialiased nor blurred nor coloured.

    pip install -e '.[bench]'
    python -m benchmarks.speed.views [--quick] [--sizes 32,96] [--cores N]
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest import mock

import kornia.augmentation as K
import torch
import torch.nn.functional as F
import torchvision.transforms.v2 as T
from lightly.transforms import SimCLRTransform
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.support.harness import arguments, comma_separated, finish, interleave, ratio, table
from synthcl.core.malloc import keep_freed_memory
from synthcl.method.views import geometry
from synthcl.method.views.simclr import SimclrConfig, apply, draw

Maker = Callable[[Tensor], Tensor]
"""images (n, 3, size, size) in [0, 1] -> two views of each (2n, 3, size, size)"""
SETTINGS = SimclrConfig(crop_area_min=0.08, blur_probability=0.5, blur_sigma_max=2.0)
"""SimCLR's, with the jitter strength that its paper takes for small images"""
JITTER = (SETTINGS.brightness, SETTINGS.contrast, SETTINGS.saturation, SETTINGS.hue)
PASSES = 4  # of a batch, between two looks at the clock


class TwoViews(Dataset[list[Tensor]]):
    """Two random views of each image, as a loader's worker makes them.

    Args:
        images: (n, size, size, 3) uint8.
        transform: of one image to two views.
    """

    def __init__(self, images: Tensor, transform: Callable[[Image.Image], Any]) -> None:
        self.images, self.transform = images.numpy(), transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> list[Tensor]:
        first, second = self.transform(Image.fromarray(self.images[index]))
        return [first, second]


def transform_of(size: int) -> Callable[[Image.Image], list[Tensor]]:
    """SimCLR's views of torchvision v2."""
    view = T.Compose(
        [
            T.PILToTensor(),
            T.RandomResizedCrop(size, scale=(SETTINGS.crop_area_min, 1.0)),
            T.RandomHorizontalFlip(),
            T.RandomApply([T.ColorJitter(*JITTER)], p=SETTINGS.jitter_probability),
            T.RandomGrayscale(p=SETTINGS.grayscale_probability),
            T.RandomApply([T.GaussianBlur(_kernel(size), _sigmas())], p=SETTINGS.blur_probability),
            T.ToDtype(torch.float32, scale=True),
        ]
    )
    return lambda image: [view(image), view(image)]


def kornia_transform(size: int) -> nn.Module:
    """SimCLR's views of kornia, a batch at a time."""
    return K.AugmentationSequential(
        K.RandomResizedCrop((size, size), scale=(SETTINGS.crop_area_min, 1.0)),
        K.RandomHorizontalFlip(),
        K.ColorJitter(*JITTER, p=SETTINGS.jitter_probability),
        K.RandomGrayscale(p=SETTINGS.grayscale_probability),
        K.RandomGaussianBlur((_kernel(size), _kernel(size)), _sigmas(), p=SETTINGS.blur_probability),
    )


def synthcl_views(images: Tensor, generator: torch.Generator) -> Tensor:
    """Two views of every image by synthcl, the random numbers drawn included."""
    drawn = draw(SETTINGS, 2 * len(images), 1.0, generator).to(images.device)
    return apply(images, drawn, images.shape[-1])


def matrices_views(images: Tensor, generator: torch.Generator) -> Tensor:
    """The same by dense matrices, as on a GPU."""
    with mock.patch.object(geometry, "_by_sums", geometry._by_matrices):
        return synthcl_views(images, generator)


def grid_views(images: Tensor, generator: torch.Generator) -> Tensor:
    """The crops alone, by an affine grid."""
    drawn = draw(SETTINGS, 2 * len(images), 1.0, generator)
    affine = images.new_zeros(2 * len(images), 2, 3)
    affine[:, 0, 0], affine[:, 1, 1] = drawn.width * (1 - 2 * drawn.flip), drawn.height
    affine[:, 0, 2], affine[:, 1, 2] = 2 * drawn.left + drawn.width - 1, 2 * drawn.top + drawn.height - 1
    grid = F.affine_grid(affine, [2 * len(images), *images.shape[1:]], align_corners=False)
    return F.grid_sample(images.repeat(2, 1, 1, 1), grid, padding_mode="border", align_corners=False)


def work(size: int, device: torch.device, cores: int, quick: bool) -> Iterator[tuple[str, int, Callable[[], object]]]:
    """What is timed: a name, the views of one call, and the call."""
    pixels = torch.randint(0, 256, (max(16, 2**18 // size**2), size, size, 3), dtype=torch.uint8)
    images = (pixels.permute(0, 3, 1, 2).float() / 255).contiguous().to(device)
    generator = torch.Generator().manual_seed(0)
    pipeline = kornia_transform(size).to(device)
    makers: dict[str, Maker] = {
        "synthcl": partial(synthcl_views, generator=generator),
        "kornia": lambda batch: pipeline(batch.repeat(2, 1, 1, 1)),
        "copy": lambda batch: batch.repeat(2, 1, 1, 1),
    }
    for name, make in makers.items():
        yield name, 2 * PASSES * len(images), partial(without_gradient, make, images)
        yield f"{name} with gradient", 2 * PASSES * len(images), partial(with_gradient, make, images)
    if device.type == "cpu":
        for name, other in (("matrices", matrices_views), ("grid", grid_views)):
            make = partial(other, generator=generator)
            yield name, 2 * PASSES * len(images), partial(without_gradient, make, images)
        count = (256 if quick else 1024) * cores
        many = pixels.repeat(-(-count // len(pixels)), 1, 1, 1)[:count]
        simclr = SimCLRTransform(input_size=size, cj_strength=0.5, normalize=None)
        for name, dataset in (("lightly", TwoViews(many, simclr)), ("torchvision", TwoViews(many, transform_of(size)))):
            loader = DataLoader(dataset, batch_size=64, num_workers=cores, persistent_workers=True)
            yield name, 2 * count, partial(load, loader)


def load(loader: DataLoader[list[Tensor]]) -> None:
    """Take every batch of a loader, whose workers rest before and after."""
    for _ in loader:
        pass


@torch.no_grad()
def without_gradient(make: Maker, images: Tensor) -> None:
    for _ in range(PASSES):
        make(images)


def with_gradient(make: Maker, images: Tensor) -> None:
    for _ in range(PASSES):
        learnt = images.detach().requires_grad_()
        seen = make(learnt)
        seen.backward(torch.ones_like(seen))


def _kernel(size: int) -> int:
    return 2 * (size // 20) + 1


def _sigmas() -> tuple[float, float]:
    return SETTINGS.blur_sigma_min, SETTINGS.blur_sigma_max


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--sizes", type=comma_separated(int), default=[32, 96], help="pixels a side")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="threads, and workers of the loaders")
    options = parser.parse_args()
    torch.set_num_threads(options.cores)
    keep_freed_memory()  # as the trainer does; the peers gain by it, too
    devices = [torch.device("cpu"), *[torch.device("cuda")] * torch.cuda.is_available()]
    ratios: dict[str, float] = {}
    for device in devices:
        for size in options.sizes:
            pieces = list(work(size, device, options.cores, options.quick))
            timings = interleave({name: call for name, _, call in pieces}, 3 if options.quick else 9)
            per_view = {
                name: timing.per(count) for (name, count, _), timing in zip(pieces, timings.values(), strict=True)
            }
            print(f"\n{size} pixels on {device.type}, {options.cores} cores")
            rows = []
            for name, timing in per_view.items():
                ours = per_view["synthcl with gradient" if name.endswith("gradient") else "synthcl"]
                rows.append((name, 1 / timing.median, 1 / timing.slowest, 1 / timing.fastest, ratio(timing, ours)))
                if not name.startswith("synthcl"):
                    ratios[f"{device.type}_{size}_{name.replace(' with ', '_')}"] = rows[-1][-1]
            table(["", "views/s", "slowest", "fastest", "synthcl is so many times as fast"], rows)
    finish(ratios)


if __name__ == "__main__":
    main()
