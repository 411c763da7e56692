"""Hidden patches: how many, what fills them, and that nothing of them gets through."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from synthcl.core.errors import UserError
from synthcl.method.scene import Views
from synthcl.method.views.fill_mask import FillMaskConfig, filled


def images_of(count: int, size: int = 12) -> Tensor:
    return torch.rand(count, 2, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def reference(image: Tensor, mask: Tensor, reach: int) -> Tensor:
    """The equation, pixel by pixel: image (C, s, s), mask (s, s)."""
    size = len(mask)
    image, mask = (image * mask).clone(), mask.clone()
    while (mask == 0).any():
        before, visible = image.clone(), mask.clone()
        for y in range(size):
            for x in range(size):
                box = slice(max(0, y - reach), y + reach + 1), slice(max(0, x - reach), x + reach + 1)
                if not visible[y, x] and visible[box].sum() > 0:
                    image[:, y, x] = before[:, *box].sum(dim=(1, 2)) / visible[box].sum()
                    mask[y, x] = 1
        reach *= 2
    return image


@pytest.mark.parametrize("reach", [1, 2, 5])
@pytest.mark.parametrize("visible", [0.02, 0.3, 0.8])
def test_hidden_pixels_are_means_of_visible_ones_in_boxes_that_double(visible: float, reach: int) -> None:
    images = images_of(3)
    masks = (torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(1)) < visible).double()
    masks[:, 0, 0] = 1  # the farthest that a visible pixel can be from the others
    found = filled(images, masks[:, None], reach)
    for image, mask, one in zip(images, masks, found, strict=True):
        torch.testing.assert_close(one, reference(image, mask, reach))


def test_where_all_is_visible_nothing_changes_and_hidden_pixels_say_and_learn_nothing() -> None:
    images = images_of(4)
    assert torch.equal(filled(images, torch.ones(4, 1, 12, 12, dtype=torch.float64), 3), images)
    mask = (torch.rand(4, 1, 12, 12, generator=torch.Generator().manual_seed(2)) < 0.5).double()
    other = torch.where(mask > 0, images, torch.rand_like(images))
    assert torch.equal(filled(images, mask, 3), filled(other, mask, 3))
    images.requires_grad_()
    (gradient,) = torch.autograd.grad((filled(images, mask, 3) * torch.randn_like(images)).sum(), images)
    hidden = (mask == 0).expand_as(gradient)
    assert (gradient[hidden] == 0).all()
    assert (gradient[~hidden] != 0).all()


@pytest.mark.parametrize(("area", "expected"), [(0.0, 0), (0.3, 5), (0.5, 8), (1.0, 15)])
def test_a_share_of_the_patches_is_hidden_one_always_stays_and_more_hide_the_same_ones_first(
    area: float, expected: int
) -> None:
    images, view = images_of(40, size=16), FillMaskConfig(patch=4).build(16)
    draw = view.draw(40, 1.0, torch.Generator().manual_seed(3))
    whole = Views((images,), (40,), {}, torch.arange(40)[:, None])

    def changed(area: float) -> Tensor:
        shown = view(whole, draw, {"share": 1.0, "area": area}).parts[0]
        return (shown != images).any(1).unfold(1, 4, 4).unfold(2, 4, 4).flatten(3)  # (n, 4, 4, pixels)

    patches = changed(area)
    assert torch.equal(patches.any(3), patches.all(3))
    assert (patches.any(3).sum(dim=(1, 2)) == expected).all()
    assert (patches <= changed(1.0)).all()
    if 0 < area < 1:
        assert patches.float().mean(0).std() < 0.12  # every place alike


def test_a_patch_as_large_as_a_view_is_refused() -> None:
    with pytest.raises(UserError, match="patch 16 of a fill_mask covers views of 16 pixels; give 8 or less"):
        FillMaskConfig(patch=16).build(16)
