"""Views beside the base view, against torchvision and against what their fields say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as reference

from synthcl.core.plugin import Section
from synthcl.method.scene import View, Views
from synthcl.method.views.erase import EraseConfig
from synthcl.method.views.rotation import RotationConfig, rotated
from synthcl.method.views.solarise import SolariseConfig
from synthcl.method.views.uniform import Numbers
from synthcl.method.views.vertical_flip import VerticalFlipConfig

SIZE = 12


def images_of(count: int, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def shown(view: View, images: Tensor, strength: float = 1.0, seed: int = 1) -> Tensor:
    draw = view.draw(len(images), strength, torch.Generator().manual_seed(seed))
    whole = Views((images,), (len(images),), {}, torch.arange(len(images))[:, None])
    return view(whole, draw, {}).parts[0]


SECTIONS = [VerticalFlipConfig(), RotationConfig(degrees=30), SolariseConfig(), EraseConfig()]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.kind)
def test_without_strength_nothing_changes(section: Section) -> None:
    images = images_of(64)
    assert torch.equal(shown(section.build(SIZE), images, strength=0.0), images)
    assert not torch.equal(shown(section.build(SIZE), images), images)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.kind)
def test_parts_are_changed_as_one_whole_is(section: Section) -> None:
    view, images = section.build(SIZE), images_of(10)
    draw = view.draw(10, 1.0, torch.Generator().manual_seed(1))
    parts = Views((images[:4], images[4:]), (4, 6), {}, torch.arange(10)[:, None])
    assert torch.equal(torch.cat(view(parts, draw, {}).parts), shown(view, images))


@pytest.mark.parametrize(
    ("section", "field"),
    [
        (VerticalFlipConfig, "probability"),
        (SolariseConfig, "probability"),
        (EraseConfig, "probability"),
        (RotationConfig, "right_angle_probability"),
    ],
)
@pytest.mark.parametrize("strength", [0.5, 1.0, 1.5])
def test_a_share_of_the_views_is_changed(section: type[Section], field: str, strength: float) -> None:
    images = images_of(1).expand(2000, -1, -1, -1)
    changed = (shown(section(**{field: 0.4}).build(SIZE), images, strength) != images).flatten(1).any(1)
    assert changed.float().mean().item() == pytest.approx(0.4 * min(1, strength), abs=0.04)


def test_upside_down() -> None:
    images = images_of(6)
    assert torch.equal(shown(VerticalFlipConfig(probability=1).build(SIZE), images), reference.vertical_flip(images))


@pytest.mark.parametrize("threshold", [0.0, 0.3, 1.0])
def test_solarised_as_torchvision_does(threshold: float) -> None:
    images = images_of(6)
    view = SolariseConfig(probability=1, threshold=threshold).build(SIZE)
    assert torch.equal(shown(view, images), v2.RandomSolarize(threshold, p=1.0)(images))


def test_right_angles_are_exact_and_equally_often() -> None:
    image = images_of(1)
    views = shown(RotationConfig(right_angle_probability=1).build(SIZE), image.expand(3000, -1, -1, -1))
    shares = [(views == image.rot90(turns, (2, 3))).flatten(1).all(1).float().mean().item() for turns in range(4)]
    assert shares == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3], abs=0.03)


@pytest.mark.parametrize("degrees", [-180.0, -90.0, 25.0, 90.0])
def test_other_angles_are_torchvisions_within_the_circle_that_stays(degrees: float) -> None:
    images = images_of(4)
    expected = reference.rotate(images, degrees, interpolation=v2.InterpolationMode.BILINEAR)
    from_centre = (torch.arange(SIZE) - (SIZE - 1) / 2).square()
    stays = (from_centre[:, None] + from_centre).sqrt() <= SIZE / 2 - 1
    torch.testing.assert_close(rotated(images, torch.full((4,), degrees))[..., stays], expected[..., stays])


def test_angles_are_uniform_up_to_what_the_strength_allows() -> None:
    view = RotationConfig(degrees=40, right_angle_probability=0).build(SIZE)
    images = images_of(3)
    for uniform in (0.0, 0.5, 1.0):
        draw = Numbers(torch.tensor([[0.5, 0.5, uniform]] * 3), 0.5)
        expected = rotated(images, torch.full((3,), (2 * uniform - 1) * 20))
        assert torch.equal(view.change(images, draw), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_one_rectangle_of_one_colour_is_erased(channels: int) -> None:
    section = EraseConfig(probability=1, area_min=0.1, area_max=0.3, ratio_max=2)
    images = images_of(400, channels)
    views = shown(section.build(SIZE), images)
    areas = []
    for view, image in zip(views, images, strict=True):
        lost = (view != image).any(0)
        rows, columns = lost.any(1).nonzero()[:, 0], lost.any(0).nonzero()[:, 0]
        box = view[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert lost.sum() == box[0].numel()
        assert torch.equal(box, box[:, :1, :1].expand_as(box))
        assert 1 / 3 <= len(rows) / len(columns) <= 3  # 2, and edges on whole pixels
        areas.append(lost.float().mean().item())
    assert 0.07 <= min(areas) < 0.12
    assert 0.28 < max(areas) <= 0.34
    assert sum(areas) / len(areas) == pytest.approx(0.2, abs=0.01)
