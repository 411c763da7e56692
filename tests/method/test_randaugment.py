"""RandAugment's operations against torchvision's, how often each is drawn, and whose gradient each has."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference

from synthcl.method.scene import Views
from synthcl.method.views.randaugment import APPLY, Draw, Operation, RandaugmentConfig

SIZE = 20
CORNER = {"angle": 0.0, "scale": 1.0, "interpolation": InterpolationMode.BILINEAR, "center": [0, 0]}
SHIFT = {"angle": 0.0, "scale": 1.0, "shear": [0.0, 0.0]}


def degrees(slope: float) -> float:
    return math.degrees(math.atan(slope))


def eight_bits(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda images: change((255 * images).round().byte()).float() / 255


def of_torchvision(name: Operation, m: float) -> Callable[[Tensor], Tensor]:
    """What RandAugment of torchvision does with bin 30 |m|, in the direction of m."""
    shift = int(150 / 331 * SIZE * m)
    bits = 8 - round(4 * abs(m))
    return {
        "identity": lambda x: x,
        "shear_x": lambda x: reference.affine(x, translate=[0, 0], shear=[degrees(0.3 * m), 0.0], **CORNER),
        "shear_y": lambda x: reference.affine(x, translate=[0, 0], shear=[0.0, degrees(0.3 * m)], **CORNER),
        "translate_x": lambda x: reference.affine(x, translate=[shift, 0], **SHIFT),
        "translate_y": lambda x: reference.affine(x, translate=[0, shift], **SHIFT),
        "rotate": lambda x: reference.rotate(x, 30 * m, interpolation=InterpolationMode.BILINEAR),
        "brightness": lambda x: reference.adjust_brightness(x, 1 + 0.9 * m),
        "colour": lambda x: reference.adjust_saturation(x, 1 + 0.9 * m),
        "contrast": lambda x: reference.adjust_contrast(x, 1 + 0.9 * m),
        "sharpness": lambda x: reference.adjust_sharpness(x, 1 + 0.9 * m),
        "posterise": eight_bits(lambda x: reference.posterize(x, bits)),
        "solarise": eight_bits(lambda x: reference.solarize(x, 255 - 255 * abs(m))),
        "autocontrast": eight_bits(reference.autocontrast),
        "equalise": eight_bits(reference.equalize),
    }[name]


def images_of(count: int, channels: int = 3) -> Tensor:
    """Of 8 bits; the last is dark and nearly flat, with a channel that is wholly flat."""
    images = torch.randint(20, 230, (count, channels, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    images[-1] = images[-1] // 60
    images[-1, 0] = 7
    return images.float() / 255


def views_of(images: Tensor) -> Views:
    """Two views an image, one after the other."""
    return Views((images,), (len(images),), {}, torch.arange(len(images))[:, None] // 2)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("m", [-1.0, -0.6, -0.1, 0.2, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("name", APPLY)
def test_an_operation_is_torchvisions(name: Operation, m: float, channels: int) -> None:
    images = images_of(5, channels)
    found = APPLY[name](images, torch.full((5,), m))
    expected = of_torchvision(name, m)(images)
    truncated = 1 / 255 if name == "autocontrast" else 0.0  # to 8 bits, downwards
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 + truncated)


@pytest.mark.parametrize("name", APPLY)
def test_magnitude_0_is_the_identity_but_of_two_operations(name: Operation) -> None:
    images = images_of(4)
    images[0, 0, 0, 0] = 1.0
    unchanged = torch.allclose(APPLY[name](images, torch.zeros(4)), images, atol=1e-6)
    assert unchanged == (name not in ("autocontrast", "equalise"))


def test_each_view_passes_its_own_operations_one_after_the_other() -> None:
    images, numbers = images_of(6), {name: number for number, name in enumerate(APPLY)}
    chains: list[list[Operation]] = [
        ["rotate", "contrast"],
        ["contrast", "rotate"],
        ["identity", "equalise"],
        ["solarise", "solarise"],
        ["shear_x", "sharpness"],
        ["posterise", "identity"],
    ]
    operations = np.array([[numbers[name] for name in chain] for chain in chains])
    signs = torch.tensor([[1.0, -1.0]]).repeat(6, 1)
    view = RandaugmentConfig(sides="both").build(SIZE)
    draw = Draw(torch.zeros(6), signs, operations)
    found = view(views_of(images), draw, {"share": 1.0, "magnitude": 0.5}).parts[0]
    for row, (first, second) in enumerate(chains):
        once = APPLY[first](images[row : row + 1], torch.tensor([0.5]))
        torch.testing.assert_close(found[row : row + 1], APPLY[second](once, torch.tensor([-0.5])))


def test_operations_and_signs_are_equally_often_and_those_left_out_never() -> None:
    section = RandaugmentConfig(operations=3, without=("equalise", "posterise"))
    draw = section.build(SIZE).draw(4000, 1.0, torch.Generator().manual_seed(1))
    counts = np.bincount(draw.operations.ravel())
    assert len(counts) == 12
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_square < 31.3  # 0.1 % of 11 degrees of freedom
    assert draw.signs.mean().item() == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_with_one_side_the_second_view_of_an_image_stays_to_the_bit(share: float) -> None:
    images = images_of(2000)
    view = RandaugmentConfig(without=("identity", "posterise", "solarise", "autocontrast", "equalise")).build(SIZE)
    draw = view.draw(2000, 1.0, torch.Generator().manual_seed(2))
    shown = view(views_of(images), draw, {"share": share, "magnitude": 0.7}).parts[0]
    changed = (shown != images).flatten(1).any(1)
    assert not changed[1::2].any()
    assert changed[::2].float().mean().item() == pytest.approx(share, abs=0.04)


@pytest.mark.parametrize("name", APPLY)
def test_the_gradient_is_the_slope_or_passes_straight_through(name: Operation) -> None:
    images = images_of(3).double()
    images += 0.3 / 255 * torch.rand(images.shape, generator=torch.Generator().manual_seed(3))  # no two are equal
    amounts = torch.tensor([0.4, -0.7, 1.0], dtype=torch.float64)
    images.requires_grad_()
    weights = torch.randn(images.shape, generator=torch.Generator().manual_seed(4)).double()
    (gradient,) = torch.autograd.grad((APPLY[name](images, amounts) * weights).sum(), images)
    if name in ("posterise", "equalise"):
        torch.testing.assert_close(gradient, weights)
        assert RandaugmentConfig().build(SIZE).straight_through
        return
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(5)).double() * 1e-7
    with torch.no_grad():
        change = ((APPLY[name](images + direction, amounts) - APPLY[name](images, amounts)) * weights).sum()
    torch.testing.assert_close(change, (gradient * direction).sum(), rtol=1e-4, atol=1e-9)
    assert not RandaugmentConfig(without=("posterise", "equalise")).build(SIZE).straight_through


def test_leaving_out_everything_is_refused() -> None:
    with pytest.raises(ValueError, match="leave one at least"):
        RandaugmentConfig(without=tuple(APPLY))
