"""A probe of the origin guesses at a perfect mixture, and is right about what a plane parts."""

import pytest
import torch
from small_trainer import CPU, FOLDER, random_images, tiny_config, trainer_of
from torch import nn

from synthcl.core.rng import generator
from synthcl.data import ResidentImages
from synthcl.evaluation import origin


def normal(*shape):
    return torch.randn(*shape, generator=generator("origin", *shape))


def test_a_perfect_mixture_is_guessed_at_and_a_shift_is_found():
    features = normal(2, 8000, 16)
    assert origin.origin(*features) == pytest.approx(50, abs=2.5)  # of 4,000 scored, a deviation of 0.8
    apart = features[1] + 2 * torch.eye(16)[0]
    assert origin.origin(features[0], apart) == pytest.approx(100 * 0.8413, abs=2.5)  # Phi(1): the plane half way
    assert origin.origin(features[0], features[1] + 20 * torch.eye(16)[0]) == 100


def test_a_difference_that_no_plane_shows_is_not_seen():
    features = normal(2, 8000, 16)
    assert origin.origin(features[0], 3 * features[1]) == pytest.approx(50, abs=2.5)


class Means(nn.Module):
    """Means of small blocks as features."""

    def forward(self, images):
        return nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)


def test_it_is_measured_of_every_source_that_has_enough_images_when_asked_for(monkeypatch):
    monkeypatch.setattr(origin, "panel_images", lambda data, device: random_images(200))
    dark = ResidentImages(random_images(90).pixels // 2, CPU)
    sources = {"gan": random_images(300, 16, "others"), "mine": dark, "few": random_images(31)}
    asked = tiny_config({"evaluation.origin_probe": True})
    found = origin.measure(Means(), asked, CPU, lambda count: sources)
    assert {*found} == {"synthetic/origin_probe", "synthetic/mine/origin_probe"}
    assert found["synthetic/mine/origin_probe"] == 100
    assert found["synthetic/origin_probe"] < 70
    assert origin.measure(Means(), asked, CPU, lambda count: sources) == found
    assert origin.measure(Means(), tiny_config(), CPU, lambda count: pytest.fail("asked for images")) == {}


def test_a_trainer_gives_images_of_each_source_and_learns_as_if_nobody_had_looked():
    config = tiny_config(FOLDER | {"synthetic.gan.image_size": 8})
    looked, other = trainer_of(config), trainer_of(config)
    looked.advance(1)
    found = looked.synthetic_images(12)
    assert {*found} == {"gan", "mine"}
    assert found["gan"].fetch(torch.arange(12)).shape == (12, 1, 16, 16)
    assert found["gan"].pixels.dtype == torch.uint8
    assert torch.equal(found["gan"].pixels, looked.synthetic_images(12)["gan"].pixels)
    assert found["mine"] is looked.shown.folders["mine"].images
    assert looked.advance(3) == other.advance(3)[1:]
    assert trainer_of(tiny_config({"curriculum.synthetic_fraction": 0.0})).synthetic_images(12) == {}
    control = {"synthetic.mine": {"kind": "folder", "path": "mine", "pairs": "names", "twins": "none"}}
    assert {*trainer_of(tiny_config(control)).synthetic_images(12)} == {"gan"}
