"""Inverted images are those that a generator is known to make, and what is nearest is found among all pairs."""

import pytest
import torch
from small_trainer import tiny_config

from synthcl.method.synthetic.gan.networks import make_generator
from synthcl.runs.inversion import invert, nearest_others


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    return make_generator(tiny_config().gan, 1, 16).requires_grad_(False)


@pytest.fixture(scope="module")
def latents():
    drawn = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    return drawn / drawn.norm(dim=1, keepdim=True) * 8**0.5


def test_the_latent_of_an_image_that_the_generator_made_is_found(generator, latents):
    made = generator(latents)
    found = invert(generator, made, 8, steps=200)
    assert found.distances.max() < 1e-4 < 1e-2 * invert(generator, 1 - made, 8, steps=50).distances.min()
    torch.testing.assert_close(generator(found.latents), made, atol=0.02, rtol=0)
    torch.testing.assert_close(found.latents.norm(dim=1), torch.full((5,), 8**0.5))


def test_distances_are_those_of_the_images_of_the_latents(generator, latents):
    images = torch.rand(5, 1, 16, 16, generator=torch.Generator().manual_seed(2))
    found = invert(generator, images, 8, steps=3)
    again = (generator(found.latents) - images).square().flatten(1).mean(dim=1)
    torch.testing.assert_close(found.distances, again)


def test_parts_of_the_images_change_no_latent(generator, latents, monkeypatch):
    made = generator(latents)
    whole = invert(generator, made, 8, steps=20)
    monkeypatch.setattr("synthcl.runs.inversion.AT_ONCE", 2)
    torch.testing.assert_close(invert(generator, made, 8, steps=20).latents, whole.latents, atol=1e-3, rtol=1e-3)


def test_the_nearest_other_image_is_that_of_all_pairs(monkeypatch):
    monkeypatch.setattr("synthcl.runs.inversion.AT_ONCE", 3)
    images = torch.rand(7, 2, 4, 4, generator=torch.Generator().manual_seed(3))
    pairs = [[(one - other).square().mean().item() for other in images] for one in images]
    nearest = [min(row[:at] + row[at + 1 :]) for at, row in enumerate(pairs)]
    assert nearest_others(images).tolist() == pytest.approx(nearest, rel=1e-4)
