"""Random fields: their covariance, one field at every size, and global operations where one number is left."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference

from synthcl.method.scene import Views
from synthcl.method.views import simclr
from synthcl.method.views.field import Draw, FieldConfig, basis_of, waves

SIZE = 24


def smooth(count: int) -> Tensor:
    """Images without sharp edges."""
    small = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    return F.interpolate(small, SIZE, mode="bicubic", align_corners=False).clamp(0, 1)


def shown(images: Tensor, draw: Draw, section: FieldConfig, geometry: float, colour: float) -> Tensor:
    views = Views((images,), (len(images),), {}, torch.arange(len(images))[:, None])
    own = {"share": 1.0, "geometry": geometry, "colour": colour}
    return section.build(images.shape[3])(views, draw, own).parts[0]


def one_number(field: int, values: list[float]) -> Draw:
    """Of views without waves, one field with these values; all others 0."""
    amplitudes = torch.zeros(len(values), 8, 2)
    amplitudes[:, field, 0] = torch.tensor(values)
    return Draw(torch.zeros(len(values)), amplitudes)


def test_there_is_one_of_each_pair_of_opposite_waves_within_a_circle() -> None:
    assert waves(0) == [(0, 0)]
    assert {*waves(1)} == {(0, 0), (1, 0), (0, 1)}
    for highest in (2, 4):
        span = range(-highest, highest + 1)
        disc = {(x, y) for x in span for y in span if math.hypot(x, y) <= highest}
        chosen = waves(highest)
        assert len(chosen) == (len(disc) + 1) // 2
        assert {*chosen} | {(-x, -y) for x, y in chosen} == disc


@pytest.mark.parametrize(("modes", "falloff"), [(0, 4.0), (2, 2.0), (3, 6.0)])
def test_the_covariance_of_a_field_is_the_sum_of_its_waves(modes: int, falloff: float) -> None:
    basis = basis_of(waves(modes), falloff, 6)
    power = {wave: (1 + wave[0] ** 2 + wave[1] ** 2) ** (-falloff / 2) for wave in waves(modes)}
    total = sum(power.values())
    centres = [(i + 0.5) / 6 for i in range(6)]
    places = [(x, y) for y in centres for x in centres]
    expected = [
        [
            sum(p * math.cos(math.pi * (k * (a - c) + m * (b - d))) for (k, m), p in power.items()) / total
            for c, d in places
        ]
        for a, b in places
    ]
    torch.testing.assert_close(basis.T @ basis, torch.tensor(expected, dtype=torch.float64))
    amplitudes = torch.randn(20000, len(basis), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert (amplitudes @ basis).var().item() == pytest.approx(1.0, abs=0.05)


def test_a_draw_is_the_same_field_at_every_size() -> None:
    amplitudes = torch.randn(3, len(basis_of(waves(3), 4.0, 8)), generator=torch.Generator().manual_seed(2)).double()
    fine = (amplitudes @ basis_of(waves(3), 4.0, 48)).view(3, 48, 48)
    coarse = (amplitudes @ basis_of(waves(3), 4.0, 16)).view(3, 16, 16)
    torch.testing.assert_close(fine[:, 1::3, 1::3], coarse)  # every third centre is a centre of the coarse pixels


def test_one_number_turns_as_torchvision_does_within_the_circle_that_stays() -> None:
    images, angles = smooth(3), [-0.6, 0.25, 1.0]
    found = shown(images, one_number(0, angles), FieldConfig(modes=0), geometry=0.5, colour=0.0)
    from_centre = (torch.arange(SIZE) - (SIZE - 1) / 2).square()
    stays = (from_centre[:, None] + from_centre).sqrt() <= SIZE / 2 - 1
    for image, view, angle in zip(images, found, angles, strict=True):
        turned = reference.rotate(image, math.degrees(0.5 * angle), interpolation=InterpolationMode.BILINEAR)
        torch.testing.assert_close(view[:, stays], turned[:, stays])


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (1, lambda p: math.exp(0.2) * p),
        (2, lambda p: p + torch.stack([0.2 * p[1], torch.zeros_like(p[1])])),
        (3, lambda p: p + torch.tensor([0.2, 0.0])[:, None]),
        (4, lambda p: p + torch.tensor([0.0, 0.2])[:, None]),
    ],
    ids=["scale", "shear", "right", "down"],
)
def test_one_number_moves_every_place_alike(field: int, expected) -> None:
    ramp = (2 * (torch.arange(SIZE) + 0.5) / SIZE - 1).expand(SIZE, SIZE)
    images = torch.stack([ramp, ramp.T])[:, None] / 4 + 0.5  # which tell where a pixel is from
    places = torch.stack([ramp, ramp.T]).flatten(1)
    found = shown(images, one_number(field, [1.0, 1.0]), FieldConfig(modes=0), geometry=0.2, colour=0.0)
    wanted = expected(places)
    inside = (wanted.abs() < 1 - 1 / SIZE).all(0)
    torch.testing.assert_close((4 * found[:, 0].flatten(1) - 2)[:, inside], wanted[:, inside])


@pytest.mark.parametrize(("field", "name"), [(5, "brightness"), (6, "saturation"), (7, "hue")])
def test_one_number_recolours_as_the_base_view_does(field: int, name: str) -> None:
    images = 0.3 + 0.4 * smooth(4)
    values = torch.tensor([-1.0, -0.3, 0.4, 1.0])
    plain = simclr.draw(simclr.SimclrConfig(), 4, 0.0, torch.Generator().manual_seed(0))
    wanted = 0.3 * values / 4 if name == "hue" else 1 + 0.3 * values
    expected = simclr.apply(images, plain._replace(**{name: wanted}), SIZE)
    found = shown(images, one_number(field, values.tolist()), FieldConfig(modes=0), geometry=0.0, colour=0.3)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_with_waves_places_differ_and_without_strength_nothing_changes() -> None:
    images = torch.full((2, 1, SIZE, SIZE), 0.5)
    section = FieldConfig()
    draw = section.build(SIZE).draw(2, 1.0, torch.Generator().manual_seed(3))
    assert torch.equal(shown(images, draw, section, geometry=0.0, colour=0.0), images)
    lit = shown(images, draw, section, geometry=0.0, colour=0.2)
    field = (draw.amplitudes[:, 5] @ section.build(SIZE).basis).view(2, 1, SIZE, SIZE)
    torch.testing.assert_close(lit, (0.5 * (1 + 0.2 * field)).clamp(0, 1))
    assert lit.std() > 0.02
