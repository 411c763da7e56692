"""The stochastic view T(.): random resized crop, flip, colour jitter, grayscale and blur of a whole batch at once.

Every operation is linear in the image: rows and columns are resampled one after the other (crop, flip, antialiasing
and blur: geometry.py), and colours go through one affine map. The same code serves real and generated images on
every device, and gradients flow through it to the images that require one.

Differences from the same chain in torchvision, all on purpose:
- Crops are not rounded to whole pixels, and on an oblong image the aspect ratio is relative to the image's own.
- Jitter runs in the fixed order brightness, contrast, saturation, hue, and the result is clamped to [0, 1]
  once at the end; torchvision draws the order, and clamps after each operation, which loses what leaves the
  range half-way. Contrast pivots on the mean grey of the view as it is after blurring.
- Hue is a rotation about the grey axis of RGB, linear in the image. It equals the shift of HSV's hue at thirds of
  a turn. Between, chroma points within 3 degrees of HSV's and differs by less than 10 % of its length, but
  brightness differs: HSV keeps the largest channel, the rotation keeps the mean.
- The blur's kernel is not cut off at a kernel size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor

from synthcl.core.device import to_device
from synthcl.core.errors import UserError
from synthcl.core.plugin import Fraction, Positive, Section
from synthcl.method.scene import Own, View, Views
from synthcl.method.views.geometry import make_crops, resample


class SimclrConfig(Section):
    """The stochastic view T(.); ranges as in SimCLR (Chen et al. 2020, appendix A) at strength 1."""

    kind: Literal["simclr"] = "simclr"
    size: int | None = Field(None, ge=8, le=512, description="pixels a side of a view; none means data.image_size")
    crop_area_min: float = Field(0.2, gt=0, le=1, description="smallest crop, as a share of the image's area")
    crop_ratio_max: float = Field(4 / 3, ge=1, description="aspect ratio is log-uniform in [1/max, max]")
    flip_probability: Fraction = Field(0.5, description="of a horizontal flip")
    jitter_probability: Fraction = Field(0.8, description="of brightness, contrast, saturation and hue together")
    brightness: float = Field(0.4, ge=0, le=1, description="factor uniform in [1-b, 1+b]")
    contrast: float = Field(0.4, ge=0, le=1, description="factor uniform in [1-c, 1+c]")
    saturation: float = Field(0.4, ge=0, le=1, description="factor uniform in [1-s, 1+s]")
    hue: float = Field(0.1, ge=0, le=0.5, description="rotation uniform in [-h, h] turns")
    grayscale_probability: Fraction = Field(0.2, description="of losing all colour")
    blur_probability: Fraction = Field(0.0, description="of a Gaussian blur")
    blur_sigma_min: Positive = Field(0.1, description="pixels")
    blur_sigma_max: Positive = Field(1.0, description="pixels")

    @model_validator(mode="after")
    def _sigma_is_ordered(self) -> SimclrConfig:
        if self.blur_sigma_min > self.blur_sigma_max:
            raise ValueError(f"blur_sigma_min {self.blur_sigma_min:g} is above blur_sigma_max {self.blur_sigma_max:g}")
        return self

    def build(self, size: int) -> SimclrView:
        return SimclrView(self, size)


class SimclrView(View):
    """`draw` and `apply_to_each` as the base view of a step.

    Args:
        section: ranges and probabilities.
        size: pixels a side of a view.
    """

    site: ClassVar[Literal["base"]] = "base"

    def __init__(self, section: SimclrConfig, size: int) -> None:
        super().__init__()
        self._section, self._size = section, size

    def draw(self, views: int, strength: float | Tensor, generator: torch.Generator) -> Draw:
        return draw(self._section, views, strength, generator)

    def forward(self, views: Views, draw: Draw, own: Own) -> Views:
        return views._replace(parts=tuple(apply_to_each(views.parts, views.counts, draw, self._size)))


_CROP_ATTEMPTS = 10  # as torchvision: a crop that sticks out is redrawn, and the tenth failure takes the whole image
_CROP_AREA_FLOOR = 0.08  # smallest crop that strengths above 1 may reach, SimCLR's own for ImageNet
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class Draw(NamedTuple):
    """The parameters of n views: float tensors (n,), one row a view, so any subset of rows stands alone."""

    top: Tensor  # of the crop, as fractions of the image's height and width
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor  # 1 where mirrored, else 0
    brightness: Tensor  # factors; 1 leaves the image as it is
    contrast: Tensor
    saturation: Tensor
    hue: Tensor  # turns
    grayscale: Tensor  # 1 where grey, else 0
    blur_sigma: Tensor | None = None  # pixels of the view, 0 where sharp; none where no view is ever blurred

    def rows(self, indices: Tensor | slice) -> Draw:
        """The draws of some of the views.

        Args:
            indices: a slice, or int64 or bool indices of views.
        """
        return Draw._make(None if field is None else field[indices] for field in self)

    def to(self, device: torch.device | str) -> Draw:
        """The same draws on another device, moved in one transfer."""
        return Draw(*to_device(torch.stack([field for field in self if field is not None]), device).unbind())


def draw(config: SimclrConfig, count: int, strength: float | Tensor, *generators: torch.Generator) -> Draw:
    """Draw the parameters of `count` views for each generator, one set after the other.

    Strength scales what makes views differ: the removed share of the area, the exponent of the aspect ratio,
    the four jitter ranges, and the probabilities of grayscale and blur. The probability of flipping grows up to
    strength 1 only, that of jitter stays, since its ranges scale. Probabilities end at 1, factors at 0, hue at half
    a turn, and the smallest crop at 8 % of the area, or at `crop_area_min` where that is smaller. The random numbers
    behind a draw do not depend on strength, so a view changes smoothly with it.

    Args:
        config: ranges and probabilities at strength 1.
        count: number of views.
        strength: in [0, 2], of all views or (n,) float64; 0 leaves images as they are, up to resizing.
        generators: on the CPU; the only sources of randomness.

    Raises:
        UserError: when strength is out of range.

    Source: Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations", appendix A.
    """
    s = torch.as_tensor(strength, dtype=torch.float64).view(-1)  # (1,) or (n,)
    if len(s) and not (s.min() >= 0 and s.max() <= 2):
        raise UserError(f"view strength {strength} must be in [0, 2]")
    numbers = torch.cat([torch.rand(count, 2 * _CROP_ATTEMPTS + 12, generator=source) for source in generators])
    areas, ratios, others = numbers.split([_CROP_ATTEMPTS, _CROP_ATTEMPTS, 12], dim=1)
    y, x, flip, jitter, brightness, contrast, saturation, hue, grayscale, blur, sigma, _ = others.unbind(1)

    area_min = (1 - (1 - config.crop_area_min) * s).clamp(min=min(config.crop_area_min, _CROP_AREA_FLOOR))
    areas = 1 - (1 - area_min).float()[:, None] * areas  # (n, attempts)
    ratios = torch.exp((2 * ratios - 1) * s.float()[:, None] * math.log(config.crop_ratio_max))
    heights, widths = torch.sqrt(areas / ratios), torch.sqrt(areas * ratios)
    fits = (heights <= 1) & (widths <= 1)
    first = fits.int().argmax(1, keepdim=True)
    height, width = (sides.gather(1, first)[:, 0].where(fits.any(1), 1.0) for sides in (heights, widths))

    jittered = (jitter < config.jitter_probability).float()

    def factor(uniform: Tensor, spread: float) -> Tensor:
        low, high = (1 - spread * s).clamp(min=0), 1 + spread * s
        return 1 + jittered * ((low - 1).float() + (high - low).float() * uniform)

    blur_probability = (config.blur_probability * s).clamp(max=1)
    sigmas = config.blur_sigma_min + (config.blur_sigma_max - config.blur_sigma_min) * sigma
    return Draw(
        top=y * (1 - height),
        left=x * (1 - width),
        height=height,
        width=width,
        flip=(flip < (config.flip_probability * s.clamp(max=1)).float()).float(),
        brightness=factor(brightness, config.brightness),
        contrast=factor(contrast, config.contrast),
        saturation=factor(saturation, config.saturation),
        hue=jittered * (2 * hue - 1) * (config.hue * s).clamp(max=0.5).float(),
        grayscale=(grayscale < (config.grayscale_probability * s).float()).float(),
        blur_sigma=sigmas * (blur < blur_probability.float()) if blur_probability.max() > 0 else None,
    )


def apply(images: Tensor, draw: Draw, size: int) -> Tensor:
    """Make one or several views of every image; differentiable with respect to the images.

    Args:
        images: (m, C, H, W) floating point in [0, 1]; C is 1 (colour operations on chroma do nothing) or 3.
        draw: of n views, a multiple of m, on the device of the images; view i shows image i modulo m.
        size: pixels a side of a view.

    Returns:
        (n, C, size, size) in [0, 1], at least float32 whatever autocast says.

    Raises:
        UserError: when images and draw do not fit together.
    """
    count = len(draw.top)
    if count % max(1, len(images)) or images.shape[1] not in (1, 3):
        shape = tuple(images.shape)
        raise UserError(f"images of shape {shape} must be (m, 1 or 3, H, W) with m a divisor of the {count} views")
    return apply_to_each([images], [count], draw, size)[0]


def apply_to_each(sets: Sequence[Tensor], counts: Sequence[int], draw: Draw, size: int) -> list[Tensor]:
    """Make views of several sets of images at once; a set that requires no gradient pays for none.

    Args:
        sets: each as `images` of `apply`, all of one height, width and device.
        counts: of the views of each set, a multiple of its images; they add up to the draw's.
        draw, size: as of `apply`.
    """
    if not len(draw.top):
        return [images.new_zeros(0, images.shape[1], size, size) for images in sets]
    with torch.autocast(sets[0].device.type, enabled=False):
        sets = [images.to(torch.promote_types(images.dtype, torch.float32)) for images in sets]
        draw = Draw._make(None if field is None else field.to(sets[0].dtype) for field in draw)
        left, width = draw.left + draw.flip * draw.width, draw.width * (1 - 2 * draw.flip)  # mirrored where flipped
        crops = make_crops((draw.top, left), (draw.height, width), size, sets[0].shape[2:], draw.blur_sigma)
        colours = _make_colours(draw, sets[0].shape[1])
        views, start = [], 0
        for images, count in zip(sets, counts, strict=True):
            rows = slice(start, start := start + count)
            views.append(_recolour(resample(images, crops.rows(rows), size), colours.rows(rows)))
        return views


class _Colours(NamedTuple):
    """Jitter and grayscale of n views: matrix @ colour + spread * mean grey; grey stays grey after contrast."""

    matrix: Tensor  # (n, 3, 3); (n, 1, 1) of grey images
    spread: Tensor  # (n, 1, 1)
    luma: Tensor  # (C,)

    def rows(self, rows: slice) -> _Colours:
        return _Colours(self.matrix[rows], self.spread[rows], self.luma)


def _make_colours(draw: Draw, channels: int) -> _Colours:
    gain = draw.brightness * draw.contrast
    spread = (draw.brightness - gain)[:, None, None]
    if channels == 1:
        return _Colours(gain[:, None, None], spread, gain.new_ones(1))
    luma = torch.cat([gain.new_full((1,), weight) for weight in _LUMA])  # not new_tensor, which would wait for a GPU
    matrix = _saturate(1 - draw.grayscale, luma) @ _rotate_hue(draw.hue) @ _saturate(draw.saturation, luma)
    return _Colours(gain[:, None, None] * matrix, spread, luma)


def _recolour(views: Tensor, colours: _Colours) -> Tensor:
    """Jitter and grayscale of views (n, C, size, size) as one affine map, then clamped to [0, 1]."""
    pixels = views.flatten(2)  # (n, C, P)
    offset = colours.spread * (pixels.mean(2) @ colours.luma)[:, None, None]
    mixed = colours.matrix * pixels if pixels.shape[1] == 1 else colours.matrix @ pixels
    return mixed.add_(offset).clamp(0, 1).view_as(views)


def _saturate(factor: Tensor, luma: Tensor) -> Tensor:
    """Matrices (n, 3, 3) that blend colours with their grey; 0 is grey, 1 the identity."""
    identity = torch.eye(3, dtype=luma.dtype, device=luma.device)
    return luma + factor[:, None, None] * (identity - luma)


def _rotate_hue(turns: Tensor) -> Tensor:
    """Matrices (n, 3, 3) that rotate colours about the grey axis: a mixture of the three cyclic shifts of RGB."""
    channel = torch.arange(3, device=turns.device)
    shares = (1 + 2 * torch.cos(2 * math.pi * (turns[:, None] - channel / 3))) / 3  # (n, 3)
    return shares[:, (channel[:, None] - channel) % 3]
