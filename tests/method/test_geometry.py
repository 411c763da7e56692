"""Sums of taps, as on the CPU, and products of matrices, as elsewhere and for gradients, give the same views."""

import pytest
import torch

from synthcl.core.rng import generator
from synthcl.method.views import geometry
from synthcl.method.views.simclr import SimclrConfig, draw


def random_crops(count, size, height, width, blurred):
    drawn = draw(SimclrConfig(blur_probability=0.5, blur_sigma_max=2.0), count, 1.5, generator("crops"))
    left, extent = drawn.left + drawn.flip * drawn.width, drawn.width * (1 - 2 * drawn.flip)
    axes = (drawn.top, left), (drawn.height, extent)
    return geometry.make_crops(*axes, size, (height, width), drawn.blur_sigma if blurred else None)


@pytest.mark.parametrize("blurred", [False, True])
@pytest.mark.parametrize(("channels", "height", "width", "size"), [(1, 28, 28, 28), (3, 24, 40, 17), (3, 12, 12, 30)])
def test_sums_and_matrices_agree(channels, height, width, size, blurred):
    images = torch.rand(4, channels, height, width, generator=generator("images"))
    crops = random_crops(12, size, height, width, blurred)
    by_sums, by_matrices = geometry._by_sums(images, crops, size), geometry._by_matrices(images, crops, size)
    torch.testing.assert_close(by_sums, by_matrices, rtol=0, atol=1e-5)
    learnt = images.clone().requires_grad_()
    assert torch.equal(geometry.resample(images, crops, size), by_sums)
    assert torch.equal(geometry.resample(learnt, crops, size), by_matrices)
    with torch.no_grad():
        assert torch.equal(geometry.resample(learnt, crops, size), by_sums)


@pytest.mark.parametrize("by", [geometry._by_sums, geometry._by_matrices])
def test_view_i_shows_image_i_modulo_their_number(by):
    images = torch.rand(3, 3, 16, 16, generator=generator("images"))
    crops = random_crops(9, 16, 16, 16, blurred=True)
    torch.testing.assert_close(by(images, crops, 16), by(images.repeat(3, 1, 1, 1), crops, 16))


def test_weights_of_a_pixel_add_up_to_one_and_lie_in_the_image():
    crops = random_crops(50, 20, 32, 48, blurred=False)
    for (indices, weights), pixels in ((crops.along_height, 32), (crops.along_width, 48)):
        torch.testing.assert_close(weights.sum(2), torch.ones(50, 20))
        assert weights.min() >= 0
        assert indices.min() >= 0
        assert indices.max() < pixels
