"""The objectives of discriminator and generator, and the augmentation both look through."""

import pytest
import torch
from torch import nn

from synthcl.config.schema import Config
from synthcl.core import rng
from synthcl.method.synthetic.gan.diffaugment import Augmented, augment, augmentation_draw
from synthcl.method.synthetic.gan.networks import make_discriminator
from synthcl.method.synthetic.gan.objectives import discriminator_objective, generator_objective

ROWS, SIZE = 8, 16


def config(**gan):
    return Config(name="test").with_overrides({f"gan.{name}": value for name, value in gan.items()})


def images(seed, channels=1):
    return torch.rand(ROWS, channels, SIZE, SIZE, generator=rng.generator(seed))


def draw_of(settings):
    return augmentation_draw(settings.gan.augment_strength, ROWS, *(rng.generator("draw", side) for side in range(2)))


class Linear(nn.Module):
    """D(x) = w . x - b, whose gradient at every image is w."""

    def __init__(self, offset=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-0.1, 0.1, SIZE * SIZE))
        self.offset = offset

    def forward(self, seen):
        return seen.flatten(1) @ self.weight - self.offset


def test_hinge_objective_is_the_equation():
    discriminator, real, fake = Linear(), images("real"), images("fake")
    loss, _ = discriminator_objective(discriminator, Augmented(real, fake), config().gan)
    expected = 0.0
    for side, sign in ((real, 1), (fake, -1)):
        expected += sum(max(0.0, 1 - sign * logit.item()) for logit in discriminator(side)) / ROWS
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    realism = generator_objective(discriminator, Augmented(real, fake), config().gan)
    assert realism.item() == pytest.approx(-discriminator(fake).mean().item(), abs=1e-6)


def test_relativistic_objectives_mirror_each_other():
    settings = config(loss="relativistic")
    discriminator, real, fake = Linear(), images("real"), images("fake")
    loss, _ = discriminator_objective(discriminator, Augmented(real, fake), settings.gan)
    margin = discriminator(real) - discriminator(fake)
    assert loss.item() == pytest.approx(torch.log1p(torch.exp(-margin)).mean().item(), rel=1e-5)
    swapped = generator_objective(discriminator, Augmented(fake, real), settings.gan)
    assert swapped.item() == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize(("kind", "sides"), [("hinge", 1), ("relativistic", 2)])
def test_gradient_penalty_of_a_linear_discriminator_is_half_its_squared_weight_a_side(kind, sides):
    discriminator, real, fake = Linear(), images("real"), images("fake")
    without, _ = discriminator_objective(discriminator, Augmented(real, fake), config(loss=kind).gan)
    settings = config(loss=kind, gradient_penalty=3.0)
    loss, statistics = discriminator_objective(discriminator, Augmented(real, fake), settings.gan)
    penalty = sides * discriminator.weight.square().sum().item() / 2
    assert statistics["penalty"].item() == pytest.approx(penalty, rel=1e-5)
    assert (loss - without).item() == pytest.approx(3 * penalty, rel=1e-4)


@pytest.mark.parametrize("kind", ["hinge", "relativistic"])
def test_lazy_penalties_of_a_discriminator_that_stands_still_have_the_mean_gradient_of_the_others(kind):
    settings = config(loss=kind, gradient_penalty=0.7, penalty_every=3)
    discriminator = make_discriminator(settings.gan.model_copy(update={"spectral_norm": False}), 1, SIZE).double()
    augmented = Augmented(images("real").double(), images("fake").double())

    def gradients(weight):
        loss, statistics = discriminator_objective(discriminator, augmented, settings.gan, weight)
        assert ("penalty" in statistics) == (weight is None or weight > 0)
        return torch.autograd.grad(loss, list(discriminator.parameters()))

    lazy = [gradients(settings.gan.penalty_at(step)) for step in range(6)]
    means = [torch.stack(each).mean(dim=0) for each in zip(*lazy, strict=True)]
    for mean, eager in zip(means, gradients(None), strict=True):
        torch.testing.assert_close(mean, eager)


@pytest.mark.parametrize("kind", ["hinge", "relativistic"])
@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_discriminator_objective_teaches_only_the_discriminator(kind, penalty):
    settings = config(loss=kind, gradient_penalty=penalty)
    discriminator = make_discriminator(settings.gan, 1, SIZE)
    real, fake = images("real"), images("fake").requires_grad_()
    loss, statistics = discriminator_objective(discriminator, Augmented(real, fake), settings.gan)
    loss.backward()
    assert fake.grad is None
    assert all(parameter.grad is not None for parameter in discriminator.parameters())
    assert not any(value.requires_grad or value.dim() for value in statistics.values())


@pytest.mark.parametrize("kind", ["hinge", "relativistic"])
def test_generator_objective_reaches_every_fake_image_through_the_augmentation(kind):
    settings = config(loss=kind, augment_strength=1.0)
    fake = images("fake").requires_grad_()
    discriminator = make_discriminator(settings.gan, 1, SIZE)
    generator_objective(discriminator, augment(images("real"), fake, draw_of(settings)), settings.gan).backward()
    assert (fake.grad.flatten(1).norm(dim=1) > 0).all()


@pytest.mark.parametrize(("offset", "hinge"), [(-1e3, 0.5), (1e3, 0.5), (0.0, 1.0)])
def test_accuracy_counts_signs_for_hinge_and_order_for_relativistic(offset, hinge):
    discriminator = Linear(offset)
    bright = (discriminator.weight > 0).float().view(1, 1, SIZE, SIZE).expand(ROWS, -1, -1, -1)
    for kind, expected in (("hinge", hinge), ("relativistic", 1.0)):
        _, statistics = discriminator_objective(discriminator, Augmented(bright, 1 - bright), config(loss=kind).gan)
        assert statistics["accuracy"].item() == expected
        assert statistics["order"].item() == 1.0, "whatever is added to all logits"
        assert statistics["real_logit"] > statistics["fake_logit"]


@pytest.mark.parametrize("kind", ["hinge", "relativistic"])
def test_slices_of_a_batch_average_to_the_whole(kind):
    settings = config(loss=kind, gradient_penalty=0.5)
    discriminator = make_discriminator(settings.gan.model_copy(update={"spectral_norm": False}), 1, SIZE)
    real, fake, drawn = images("real"), images("fake"), draw_of(settings)

    def both(rows):
        both_halves = torch.arange(2 * ROWS).view(2, -1)[:, rows].flatten()
        augmented = augment(real[rows], fake[rows], drawn.rows(both_halves))
        loss, _ = discriminator_objective(discriminator, augmented, settings.gan)
        realism = generator_objective(discriminator, augmented, settings.gan)
        return torch.stack([loss, realism])

    halves = (both(slice(0, ROWS // 2)) + both(slice(ROWS // 2, ROWS))) / 2
    torch.testing.assert_close(halves, both(slice(0, ROWS)))


def test_strength_zero_shows_images_as_they_are():
    real, fake = images("real", 3), images("fake", 3)
    augmented = augment(real, fake, draw_of(config(augment_strength=0.0)))
    torch.testing.assert_close(augmented.real, real)
    torch.testing.assert_close(augmented.fake, fake)


def test_augmentation_neither_blurs_nor_greys_nor_shifts_hue_and_crops_mildly():
    draw = augmentation_draw(1.0, 500, rng.generator("many"))
    assert draw.blur_sigma is None
    assert not draw.grayscale.any()
    assert not draw.hue.any()
    assert (draw.height * draw.width).min() >= 0.7 - 1e-6
    assert draw.brightness.std() > 0.1
    assert draw.contrast.std() > 0.1
    assert 0.4 < draw.flip.mean() < 0.6
